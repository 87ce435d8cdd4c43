package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"foundry/internal/pgdev"
	"foundry/internal/postgres"
)

// bencher is one run: the server, the program under test, and what was measured.
type bencher struct {
	options
	dir    string
	binary string // foundry, built from the tree
	server *pgdev.Server
	data   string // the server's directory
	report *report

	riverRate     float64 // jobs inserted and worked a second, the median; 0: River was not measured
	riverWorkRate float64 // jobs worked from a full queue
}

// serverSettings are those of the anchors (README.md). Everything else is PostgreSQL's default.
func serverSettings(profile bool) map[string]string {
	s := map[string]string{
		"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "wal_sync_method": "fdatasync",
		"shared_buffers": "512MB", "max_connections": "200", "max_wal_size": "1GB",
	}
	if profile {
		s["shared_preload_libraries"] = "pg_stat_statements"
	}
	return s
}

func newBencher(ctx context.Context, o options) (*bencher, error) {
	if o.profile != "" {
		if err := os.MkdirAll(o.profile, 0o755); err != nil {
			return nil, err
		}
	}
	dir, err := os.MkdirTemp("", "foundry-bench-")
	if err != nil {
		return nil, err
	}
	b := &bencher{options: o, dir: dir, binary: filepath.Join(dir, "foundry"), report: newReport()}
	if err := b.begin(ctx); err != nil {
		b.close(ctx)
		return nil, err
	}
	return b, nil
}

func (b *bencher) begin(ctx context.Context) error {
	b.progress("building foundry")
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "foundry").Output()
	if err != nil {
		return fmt.Errorf("finding the tree: %w", err)
	}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", b.binary, "./cmd/foundry")
	build.Dir = string(bytes.TrimSpace(root)) // its own module says with what it is built
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building foundry: %w\n%s", err, out)
	}
	b.progress("starting PostgreSQL")
	b.server, err = pgdev.Start(ctx, pgdev.Config{Dir: filepath.Join(b.dir, "pg"), Kind: pgdev.Dev, Bin: os.Getenv("FOUNDRY_PG_BIN")}) //nolint:forbidigo // a tool, as pgtest is
	if err != nil {
		return err
	}
	return b.configure(ctx)
}

// configure writes the settings and restarts the server, which its supervisor brings back.
func (b *bencher) configure(ctx context.Context) error {
	admin, err := pgx.Connect(ctx, b.server.URL("postgres"))
	if err != nil {
		return err
	}
	if err := admin.QueryRow(ctx, "SHOW data_directory").Scan(&b.data); err != nil {
		return err
	}
	for name, value := range serverSettings(b.profile != "") {
		if _, err := admin.Exec(ctx, fmt.Sprintf("ALTER SYSTEM SET %s = '%s'", name, value)); err != nil {
			return fmt.Errorf("setting %s: %w", name, err)
		}
	}
	before, err := b.postmaster()
	if err != nil {
		return err
	}
	if err := admin.Close(ctx); err != nil {
		return err
	}
	if err := syscall.Kill(before, syscall.SIGINT); err != nil {
		return err
	}
	return until(ctx, func(ctx context.Context) (bool, error) {
		if now, err := b.postmaster(); err != nil || now == before {
			return false, nil //nolint:nilerr // it is between two lives
		}
		conn, err := pgx.Connect(ctx, b.server.URL("postgres"))
		if err != nil {
			return false, nil //nolint:nilerr // it starts
		}
		return true, conn.Close(ctx)
	})
}

// postmaster is the server's first process.
func (b *bencher) postmaster() (int, error) {
	text, err := os.ReadFile(filepath.Join(b.data, "postmaster.pid"))
	if err != nil {
		return 0, err
	}
	first, _, _ := bytes.Cut(text, []byte("\n"))
	return strconv.Atoi(string(first))
}

func (b *bencher) close(ctx context.Context) {
	if b.server != nil {
		if err := b.server.Close(); err != nil {
			b.progress("stopping PostgreSQL: %v", err)
		}
		pid := filepath.Join(b.data, "postmaster.pid")
		_ = until(context.WithoutCancel(ctx), func(context.Context) (bool, error) {
			_, err := os.Stat(pid)
			return b.data == "" || errors.Is(err, os.ErrNotExist), nil
		})
		if b.data != "" {
			_ = os.RemoveAll(filepath.Dir(filepath.Dir(filepath.Dir(b.data)))) // DIR/pg15/cluster/data, where root has it elsewhere
		}
	}
	if b.keep {
		b.progress("logs are in %s", b.dir)
		return
	}
	_ = os.RemoveAll(b.dir)
}

func (b *bencher) progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s  %s\n", time.Now().UTC().Format("15:04:05"), fmt.Sprintf(format, args...))
}

// scale is n, or less of it for a quick run or a smoke test.
func (b *bencher) scale(n, smoke int) int {
	switch {
	case b.smoke:
		return smoke
	case b.quick:
		return max(n/4, smoke)
	}
	return n
}

// repeat calls f for each of the runs.
func (b *bencher) repeat(f func(run int) error) error {
	for run := range b.runs {
		if err := f(run); err != nil {
			return err
		}
	}
	return nil
}

// database makes an empty database and returns a pool on it.
func (b *bencher) database(ctx context.Context, name string, conns int) (*pgxpool.Pool, error) {
	if err := b.server.EnsureDatabase(ctx, name); err != nil {
		return nil, err
	}
	return postgres.Open(ctx, b.server.URL(name), postgres.Options{Name: "bench", MaxConns: conns})
}

func (b *bencher) drop(ctx context.Context, name string) {
	ctx = context.WithoutCancel(ctx)
	admin, err := pgx.Connect(ctx, b.server.URL("postgres"))
	if err != nil {
		b.progress("dropping %s: %v", name, err)
		return
	}
	defer admin.Close(ctx)
	if _, err := admin.Exec(ctx, "DROP DATABASE IF EXISTS "+pgx.Identifier{name}.Sanitize()+" WITH (FORCE)"); err != nil {
		b.progress("dropping %s: %v", name, err)
	}
}

// patience is how long anything may take on the slowest machine: a bench that is too slow says so by its figures.
const patience = 4 * time.Minute

// until asks again and again until f is done, or patience is over.
func until(ctx context.Context, f func(ctx context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		done, err := f(ctx)
		if done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("it did not come to that within %s: %w", patience, ctx.Err())
		case <-ticker.C:
		}
	}
}
