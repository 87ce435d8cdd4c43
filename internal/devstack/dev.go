package devstack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"foundry/internal/config"
	"foundry/internal/errs"
	"foundry/internal/fleet/process"
	"foundry/internal/lifecycle"
	"foundry/internal/pgdev"
	"foundry/internal/postgres"
	"foundry/internal/sandbox/local"
	"foundry/internal/secret"
)

const (
	devName      = "foundry dev in " // and the folder: of its token, for two of them may share a database
	databaseName = "foundry"
)

// Config is what an installation on one machine needs.
type Config struct {
	Folder string // in which Dir is made
	Addr   string // to listen on, HOST:PORT
	Env    config.Dev
	// Program with WorkerArgs is a worker that ends when its stdin does (process.WithParent).
	Program    string
	WorkerArgs []string
	Version    string
	// Stage is told of each part that is up, and how long that took. Notice is told what else a
	// person should know while it runs, by any goroutine.
	Stage  func(name, detail string, took time.Duration)
	Notice func(line string)
}

// Stack is an installation that is up.
type Stack struct {
	State
	Dir string // of the state
}

// stack is one that is being brought up.
type stack struct {
	Config
	dir   string
	log   zerolog.Logger
	group *lifecycle.Group
	state State
	// direct leads to the database without a transaction pooler.
	direct string
	keys   *secret.Keyring
}

// Run brings up everything, calls use, and stops everything when use has returned or ctx has ended,
// which ends use's context too. It returns the first error.
func Run(ctx context.Context, c Config, use func(ctx context.Context, s Stack) error) error {
	dir, err := filepath.Abs(filepath.Join(c.Folder, Dir))
	if err != nil {
		return fmt.Errorf("finding the state folder: %w", err)
	}
	lock, err := prepare(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	listener, err := listen(ctx, c.Addr)
	if err != nil {
		return err
	}
	defer listener.Close()
	file, log, err := openLog(filepath.Join(dir, "server.log"), c.Notice)
	if err != nil {
		return err
	}
	defer file.Close()
	s := &stack{Config: c, dir: dir, log: config.NewLoggerTo(log, c.Env.LogLevel), group: lifecycle.NewGroup(ctx)}
	s.state = State{URL: "http://" + reachable(listener.Addr()), PID: os.Getpid()}
	if err := s.start(listener); err != nil { //nolint:contextcheck // the group's context is made of ours
		s.group.Stop(err)
		return errors.Join(err, s.group.Wait())
	}
	s.group.Go("dev", func(ctx context.Context) error {
		err := use(ctx, Stack{State: s.state, Dir: dir})
		s.group.Stop(errs.E(errs.Unavailable, "The installation is shutting down."))
		return err
	})
	return s.group.Wait()
}

// listen takes the port first of all: a wrong one is told at once.
func listen(ctx context.Context, addr string) (net.Listener, error) {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, errs.E(errs.Conflict, "%s is taken by another program. Choose another port with --addr, as in --addr 127.0.0.1:0 for any free one.", addr)
	}
	if err != nil {
		return nil, errs.E(errs.Invalid, "Cannot listen on %q; --addr takes HOST:PORT.", addr).Because(err)
	}
	return listener, nil
}

// reachable is where this machine reaches a listener that may be bound to all addresses.
func reachable(addr net.Addr) string {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok || !tcp.IP.IsUnspecified() {
		return addr.String()
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(tcp.Port))
}

// start brings up one part after the other; each needs those before it.
func (s *stack) start(listener net.Listener) error {
	parts := []struct {
		name string
		run  func(ctx context.Context) (detail string, err error)
	}{
		{"postgres", s.startPostgres},
		{"schema", s.migrate},
		{"keys", s.readKeys},
		{"sandbox", s.probeSandbox},
		{"server", func(ctx context.Context) (string, error) { return s.startServer(ctx, listener) }},
		{"worker", s.startWorker},
	}
	for _, part := range parts {
		began := time.Now()
		detail, err := part.run(s.group.Context())
		if err != nil {
			return err
		}
		s.Stage(part.name, detail, time.Since(began))
	}
	return nil
}

func (s *stack) startPostgres(ctx context.Context) (string, error) {
	if s.Env.URL != "" {
		s.state.DatabaseURL = string(s.Env.URL)
		s.direct = cmp.Or(string(s.Env.Direct), s.state.DatabaseURL)
		return "the one of DATABASE_URL", nil
	}
	server, err := pgdev.Start(ctx, pgdev.Config{
		Dir: filepath.Join(s.dir, "postgres"), Kind: pgdev.Dev, Bin: s.Env.PGBin,
		Progress: s.Notice,
	})
	if err != nil {
		return "", err
	}
	s.group.OnStop("leaving PostgreSQL", func(context.Context) error { return server.Close() })
	s.group.Go("postgres", server.Watch)
	if err := server.EnsureDatabase(ctx, databaseName); err != nil {
		return "", err
	}
	s.state.DatabaseURL = server.URL(databaseName)
	s.direct = s.state.DatabaseURL
	return fmt.Sprintf("PostgreSQL %d", server.Major()), nil
}

// migrate also makes the token that dev.json holds.
func (s *stack) migrate(ctx context.Context) (string, error) {
	if err := postgres.Migrate(ctx, s.direct); err != nil {
		return "", err
	}
	token, err := NewToken(ctx, s.state.DatabaseURL, devName+s.dir, 0)
	if err != nil {
		return "", err
	}
	s.state.Token = token.Reveal()
	return "migrated", nil
}

// readKeys takes the keys of FOUNDRY_ENCRYPTION_KEYS, else those of the state folder, which are made once.
func (s *stack) readKeys(context.Context) (detail string, err error) {
	detail = "those of FOUNDRY_ENCRYPTION_KEYS"
	if s.Env.Secrets.Keys == "" {
		detail = filepath.Join(s.dir, keysFile)
		if s.Env.Secrets.Keys, err = ownKeys(s.dir); err != nil {
			return "", err
		}
	}
	s.keys, err = Keyring(s.Env.Secrets)
	return detail, err
}

// probeSandbox asks what the worker will find too, to show it.
func (s *stack) probeSandbox(ctx context.Context) (string, error) {
	provider, err := openSandboxes(ctx, s.sandbox(), zerolog.Nop())
	if err != nil {
		return "", err
	}
	if provider.Level() == local.Process {
		return "plain processes: commands can do what you can do (install bubblewrap for isolation)", nil
	}
	return string(provider.Level()), nil
}

// sandboxDir is FOUNDRY_STATE_DIR, seen from the folder.
func (s *stack) sandboxDir() string {
	if filepath.IsAbs(s.Env.Sandbox.StateDir) {
		return s.Env.Sandbox.StateDir
	}
	return filepath.Join(filepath.Dir(s.dir), s.Env.Sandbox.StateDir)
}

// sandbox is the configuration of both processes.
func (s *stack) sandbox() config.Sandbox {
	c := s.Env.Sandbox
	c.StateDir = s.sandboxDir()
	return c
}

// startServer answers from when the listener was made; requests before now have waited.
func (s *stack) startServer(_ context.Context, listener net.Listener) (string, error) {
	plane := ControlPlane{
		DatabaseURL: s.state.DatabaseURL, DirectURL: s.direct, Listener: listener,
		Log: s.log, Version: s.Version, Environment: "development", PublicURL: string(s.Env.PublicURL), Drain: s.Env.Drain.Timeout,
		Lease: time.Duration(s.Env.Lease), Sandbox: s.sandbox(), Keys: s.keys, RevealOff: s.Env.Reveal.Switch == config.Off, QueuedMax: int(s.Env.QueuedMax),
		RetentionDays: int(s.Env.Retention.Days),
	}
	s.group.Go("control plane", plane.Run)
	if err := s.state.write(s.dir); err != nil {
		return "", err
	}
	s.group.OnStop("removing dev.json", func(context.Context) error { return os.Remove(filepath.Join(s.dir, stateFile)) })
	return s.state.URL, nil
}

func (s *stack) startWorker(ctx context.Context) (string, error) {
	file, log, err := openLog(filepath.Join(s.dir, "worker.log"), func(line string) { s.Notice("worker: " + line) })
	if err != nil {
		return "", err
	}
	s.group.OnStop("closing the worker's log", func(context.Context) error { return file.Close() })
	pids := make(chan int, 1)
	worker := process.New(process.Config{
		Path: s.Program, Args: s.WorkerArgs, Output: log, Grace: s.Env.Drain.Timeout + 2*time.Second,
		Env: []string{
			"DATABASE_URL=" + s.state.DatabaseURL, "DATABASE_URL_DIRECT=" + s.direct,
			"FOUNDRY_STATE_DIR=" + s.sandboxDir(), "PORT=0", "FOUNDRY_WORKER_LEASE=" + time.Duration(s.Env.Lease).String(),
			"FOUNDRY_ENCRYPTION_KEYS=" + string(s.Env.Secrets.Keys),
		},
		Started: func(pid int) {
			select {
			case pids <- pid:
			default:
				s.Notice(fmt.Sprintf("worker: started again, pid %d", pid))
			}
		},
		Ended: func(err error, pause time.Duration) {
			s.Notice(fmt.Sprintf("worker: ended (%s); another one starts in %s", err, pause))
		},
	})
	s.group.Go("worker", worker.Run)
	select {
	case pid := <-pids:
		pids <- pid // full from now on: later ones are told as notices
		return "pid " + strconv.Itoa(pid), nil
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}
