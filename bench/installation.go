package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"foundry/internal/postgres"
)

// installation is one Foundry on a database of its own.
type installation struct {
	b       *bencher
	name    string // of the database
	pool    *pgxpool.Pool
	key     string
	token   string
	address string // host:port of the control plane
	serve   *process
	workers []*process
	asked   int64 // questions of idle, each a commit
}

// process is one process of the program.
type process struct {
	cmd    *exec.Cmd
	role   string
	log    *os.File
	exited chan struct{}
	debug  string // host:port of its profiles; empty unless asked for
}

// install makes a database and starts a control plane on it.
func (b *bencher) install(ctx context.Context, name string) (*installation, error) {
	in := &installation{b: b, name: name}
	var err error
	if in.pool, err = b.database(ctx, name, 4); err != nil {
		return nil, err
	}
	if err := in.begin(ctx); err != nil {
		in.close(ctx)
		return nil, err
	}
	return in, nil
}

func (in *installation) begin(ctx context.Context) error {
	if err := postgres.Migrate(ctx, in.b.server.URL(in.name)); err != nil {
		return err
	}
	if in.b.profile != "" {
		if _, err := in.pool.Exec(ctx, "CREATE EXTENSION IF NOT EXISTS pg_stat_statements"); err != nil {
			return err
		}
	}
	var err error
	if in.key, err = in.command(ctx, "keygen"); err != nil {
		return err
	}
	if in.token, err = in.command(ctx, "admin", "token"); err != nil {
		return err
	}
	// History is kept: what is purged is up to the bench.
	in.serve, err = in.start(ctx, "serve", "PORT=0", "FOUNDRY_RETENTION_DAYS=0", "FOUNDRY_QUEUED_MAX=100000",
		"FOUNDRY_RATE_READS=1000000", "FOUNDRY_RATE_WRITES=1000000")
	if err != nil {
		return err
	}
	return until(ctx, func(ctx context.Context) (bool, error) {
		if in.serve.hasExited() {
			return false, errors.New("the control plane ended; see its log with -keep")
		}
		if in.address, err = in.serve.listensOn(); in.address == "" || err != nil {
			return false, err
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+in.address+"/readyz", nil)
		if err != nil {
			return false, err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return false, nil //nolint:nilerr // it starts
		}
		return response.StatusCode == http.StatusOK, response.Body.Close()
	})
}

// startWorker starts a worker and waits until it takes work.
func (in *installation) startWorker(ctx context.Context, slots int) error {
	before, err := in.activeWorkers(ctx)
	if err != nil {
		return err
	}
	w, err := in.start(ctx, "worker", "PORT=0", "FOUNDRY_WORKER_SLOTS="+strconv.Itoa(slots))
	if err != nil {
		return err
	}
	in.workers = append(in.workers, w)
	return until(ctx, func(ctx context.Context) (bool, error) {
		if w.hasExited() {
			return false, errors.New("the worker ended; see its log with -keep")
		}
		now, err := in.activeWorkers(ctx)
		return now > before, err
	})
}

func (in *installation) activeWorkers(ctx context.Context) (n int, err error) {
	err = in.pool.QueryRow(ctx, "SELECT count(*) FROM workers WHERE state = 'active'").Scan(&n)
	return n, err
}

func (in *installation) environment() []string {
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + in.b.dir, "LANG=C.UTF-8", //nolint:forbidigo // the children's
		"DATABASE_URL=" + in.b.server.URL(in.name), "FOUNDRY_ENCRYPTION_KEYS=" + in.key, "FOUNDRY_STATE_DIR=" + filepath.Join(in.b.dir, "state"),
	}
}

func (in *installation) command(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, in.b.binary, args...)
	cmd.Env = in.environment()
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("foundry %s: %w", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}

// start starts a process, whose log goes to a file.
func (in *installation) start(ctx context.Context, role string, env ...string) (*process, error) {
	log, err := os.CreateTemp(in.b.dir, in.name+"-"+role+"-*.log")
	if err != nil {
		return nil, err
	}
	p := &process{role: role, log: log, exited: make(chan struct{})}
	if in.b.profile != "" {
		port, err := freePort(ctx)
		if err != nil {
			return nil, err
		}
		p.debug = "127.0.0.1:" + strconv.Itoa(port)
		env = append(env, "FOUNDRY_DEBUG_ADDR="+p.debug)
	}
	p.cmd = exec.CommandContext(context.WithoutCancel(ctx), in.b.binary, role)
	p.cmd.Env, p.cmd.Dir = append(in.environment(), env...), in.b.dir
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = p.cmd.Wait() // how it ended is in its log
		close(p.exited)
	}()
	return p, nil
}

func (p *process) hasExited() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// listensOn reads from the log of a control plane where on this machine it can be reached. It is empty while the log does not say.
func (p *process) listensOn() (address string, err error) {
	text, err := os.ReadFile(p.log.Name())
	if err != nil {
		return "", err
	}
	for line := range bytes.Lines(text) {
		var record struct{ Message, Address string }
		if json.Unmarshal(line, &record) != nil || record.Message != "control plane starts" { // the last may not be whole
			continue
		}
		_, port, err := net.SplitHostPort(record.Address)
		return net.JoinHostPort("127.0.0.1", port), err
	}
	return "", nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// stop ends the process, within 20 s.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-p.exited:
	case <-time.After(20 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
	_ = p.log.Close()
}

func (in *installation) close(ctx context.Context) {
	in.stopProcesses()
	if in.pool != nil {
		in.pool.Close()
	}
	in.b.drop(ctx, in.name)
}

// stopProcesses ends everything but the database.
func (in *installation) stopProcesses() {
	in.stopWorkers()
	if in.serve != nil {
		in.serve.stop()
		in.serve = nil
	}
}

func (in *installation) stopWorkers() {
	for _, w := range in.workers {
		w.stop()
	}
	in.workers = nil
}

// cpu is what control plane and workers have spent.
func (in *installation) cpu() (serve, workers time.Duration) {
	serve, _ = cpuOf(in.serve.pid())
	for _, w := range in.workers {
		spent, _ := cpuOf(w.pid())
		workers += spent
	}
	return serve, workers
}

// call makes one request and reads its answer.
func (in *installation) call(ctx context.Context, method, path string, body, answer any) error {
	content := io.Reader(http.NoBody)
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		content = strings.NewReader(string(text))
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://"+in.address+"/api/v1"+path, content)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+in.token)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %d %.300s", method, path, response.StatusCode, text)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(text, answer)
}

// push stores a workflow.
func (in *installation) push(ctx context.Context, slug, source string) error {
	return in.call(ctx, http.MethodPost, "/workflows", map[string]string{"source": source, "slug": slug}, nil)
}

// enqueue queues one execution and returns its id.
func (in *installation) enqueue(ctx context.Context, slug string, inputs map[string]any) (string, error) {
	var queued struct{ ID string }
	if inputs == nil {
		inputs = map[string]any{}
	}
	err := in.call(ctx, http.MethodPost, "/workflows/"+slug+"/executions", map[string]any{"inputs": inputs}, &queued)
	return queued.ID, err
}

// idle waits until nothing is queued or held.
func (in *installation) idle(ctx context.Context) error {
	return until(ctx, func(ctx context.Context) (idle bool, err error) {
		// Two small tables' worth of index entries: asking costs next to nothing. The claim moves a row from one to the other in one statement.
		in.asked++
		err = in.pool.QueryRow(ctx, `SELECT NOT EXISTS (SELECT 1 FROM execution_queue) AND NOT EXISTS (SELECT 1 FROM executions WHERE worker_id IS NOT NULL)`).Scan(&idle)
		return idle, err
	})
}

func freePort(ctx context.Context) (int, error) {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	address, ok := listener.Addr().(*net.TCPAddr)
	if !ok {
		return 0, errors.New("a TCP listener without a TCP address")
	}
	return address.Port, nil
}
