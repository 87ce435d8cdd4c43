package sandboxtest_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"foundry/internal/errs"
	"foundry/internal/sandbox"
	"foundry/internal/sandbox/sandboxtest"
	"foundry/internal/shim"
)

var errInjected = errors.New("injected")

func TestFaults(t *testing.T) {
	t.Parallel()
	put := func(t *testing.T, _ *sandboxtest.Fake, b machine) error {
		t.Helper()
		return b.sb.PutFile(t.Context(), b.info.Workspace+"/f", strings.NewReader("x"), 0o600)
	}
	for name, c := range map[string]struct {
		fault  sandboxtest.Fault
		call   func(*testing.T, *sandboxtest.Fake, machine) error
		err    error
		effect bool
	}{
		"before":              {sandboxtest.Fault{Op: sandboxtest.OpPutFile, Before: errInjected}, put, errInjected, false},
		"after":               {sandboxtest.Fault{Op: sandboxtest.OpPutFile, After: errInjected}, put, errInjected, true},
		"twice":               {sandboxtest.Fault{Op: sandboxtest.OpPutFile, Twice: true}, put, nil, true},
		"late":                {sandboxtest.Fault{Op: sandboxtest.OpPutFile, Delay: time.Millisecond}, put, nil, true},
		"of another op":       {sandboxtest.Fault{Op: sandboxtest.OpDelete, Before: errInjected}, put, nil, true},
		"of a shim's command": {sandboxtest.Fault{Op: sandboxtest.OpRun, Shim: "seal", Before: errInjected}, put, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, b := newMachine(t)
			f.Inject(c.fault)
			if err := c.call(t, f, b); !errors.Is(err, c.err) {
				t.Fatalf("the call says %v, want %v", err, c.err)
			}
			_, err := b.sb.ReadFile(t.Context(), b.info.Workspace+"/f", 0, 1)
			if (err == nil) != c.effect {
				t.Fatalf("the effect: %v, want one: %v", err, c.effect)
			}
			if n := f.Calls(sandboxtest.OpPutFile); n != 1 {
				t.Fatalf("%d calls", n)
			}
		})
	}
}

// A start that is sent twice runs once; that is what Twice is for.
func TestFaultsOfTheShim(t *testing.T) {
	t.Parallel()
	f, b := newMachine(t)
	f.Inject(sandboxtest.Fault{Op: sandboxtest.OpRun, Shim: "start", Twice: true})
	r, err := b.shim.Start(t.Context(), uuid.New(), shim.Spec{Script: "sleep 1000"}, nil)
	if err != nil || r.State != shim.Already {
		t.Fatalf("the second answer is %+v, %v", r, err)
	}
	f.Inject(sandboxtest.Fault{Op: sandboxtest.OpRun, Shim: "seal", Before: errInjected, Times: 2})
	for i, want := range []error{errInjected, errInjected, nil} {
		if _, err := b.shim.Seal(t.Context(), uuid.New()); !errors.Is(err, want) {
			t.Fatalf("seal %d: %v, want %v", i, err, want)
		}
	}
}

func TestGateHoldsACall(t *testing.T) {
	t.Parallel()
	f, b := newMachine(t)
	gate := make(chan struct{})
	f.Inject(sandboxtest.Fault{Op: sandboxtest.OpGet, Gate: gate, Times: 2})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Get(ctx, b.info.ProviderID); !errors.Is(err, context.Canceled) {
		t.Fatalf("a held call whose context ends: %v", err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := f.Get(t.Context(), b.info.ProviderID)
		done <- err
	}()
	select {
	case err := <-done:
		t.Fatalf("it was not held: %v", err)
	default:
	}
	close(gate)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// slowSupervisor is one that takes its time to end, which is its lock. It begins to end when end is called, and has ended when ended says so.
func slowSupervisor(t *testing.T, b machine) (end func(), ended *atomic.Bool) {
	t.Helper()
	dir := b.shim.Dir(uuid.New())
	lock := filepath.Join(dir, "lock")
	for _, err := range []error{
		os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, shim.StartedFile), []byte("started"), 0o600), os.WriteFile(lock, nil, 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	supervisor, err := os.Open(lock)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(supervisor.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	ended = new(atomic.Bool)
	return func() {
		time.AfterFunc(200*time.Millisecond, func() {
			ended.Store(true)
			supervisor.Close()
		})
	}, ended
}

// awaitState waits until the fake tells a state.
func awaitState(t *testing.T, f *sandboxtest.Fake, b machine, state sandbox.State) {
	t.Helper()
	for {
		info, err := f.Get(t.Context(), b.info.ProviderID)
		if err != nil {
			t.Fatal(err)
		}
		if info.State == state {
			return
		}
		<-time.After(time.Millisecond)
	}
}

// A machine is destroyed for nobody before its processes have ended.
func TestDestroyByTwo(t *testing.T) {
	t.Parallel()
	f, b := newMachine(t)
	end, ended := slowSupervisor(t, b)
	first := make(chan error, 1)
	go func() { first <- f.Destroy(t.Context(), b.info.ProviderID) }()
	awaitState(t, f, b, sandbox.Destroying)
	end()
	if _, err := f.Start(t.Context(), b.info.ProviderID); err == nil {
		t.Error("what is destroyed was started")
	}
	if err := f.Destroy(t.Context(), b.info.ProviderID); err != nil || !ended.Load() {
		t.Errorf("the second call returns before the end: %v", err)
	}
	if err := <-first; err != nil {
		t.Error(err)
	}
	if _, err := f.Get(t.Context(), b.info.ProviderID); !errs.Is(err, errs.NotFound) {
		t.Errorf("afterwards: %v", err)
	}
}

// A stop ends what it found, not what somebody starts who has seen it.
func TestStartWaitsForAStop(t *testing.T) {
	t.Parallel()
	f, b := newMachine(t)
	end, ended := slowSupervisor(t, b)
	stopped := make(chan error, 1)
	go func() { stopped <- f.Stop(t.Context(), b.info.ProviderID) }()
	awaitState(t, f, b, sandbox.Stopped)
	end()
	if _, err := f.Start(t.Context(), b.info.ProviderID); err != nil || !ended.Load() {
		t.Errorf("a start while processes are ended: %v", err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestVanishedMachine(t *testing.T) {
	t.Parallel()
	f, b := newMachine(t)
	f.Inject(sandboxtest.Fault{Op: sandboxtest.OpRun, Shim: "tail", Vanish: true, After: errInjected})
	if _, err := b.shim.Tail(t.Context(), nil, 0); !errors.Is(err, errInjected) {
		t.Fatal(err)
	}
	if _, err := f.Get(t.Context(), b.info.ProviderID); !errs.Is(err, errs.NotFound) {
		t.Fatalf("get: %v", err)
	}
	if _, err := b.shim.Tail(t.Context(), nil, 0); !errs.Is(err, errs.NotFound) {
		t.Fatalf("tail: %v", err)
	}
}

type machine struct {
	info sandbox.Info
	sb   sandbox.Sandbox
	shim *sandbox.Shim
}

func newMachine(t *testing.T) (*sandboxtest.Fake, machine) {
	t.Helper()
	f := sandboxtest.NewFake(t)
	info, err := f.Create(t.Context(), sandbox.Spec{ID: uuid.New()})
	if err != nil {
		t.Fatal(err)
	}
	sb, err := f.Open(t.Context(), info.ProviderID)
	if err != nil {
		t.Fatal(err)
	}
	return f, machine{info, sb, sandbox.NewShim(sb, info)}
}
