package sandbox_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"foundry/internal/errs"
	"foundry/internal/failpoint"
	"foundry/internal/sandbox"
	"foundry/internal/shim"
)

// fencedCalls are all calls by the operation that their points name.
func fencedCalls() map[string]func(context.Context, sandbox.Provider, sandbox.Sandbox) error {
	type provider = sandbox.Provider
	type box = sandbox.Sandbox
	with := func(sb box) *sandbox.Shim {
		return sandbox.NewShim(sb, sandbox.Info{ShimRoot: "/shim", Workspace: "/w"})
	}
	return map[string]func(context.Context, provider, box) error{
		"provider.create": func(ctx context.Context, p provider, _ box) error {
			_, err := p.Create(ctx, sandbox.Spec{})
			return err
		},
		"provider.get":        func(ctx context.Context, p provider, _ box) error { _, err := p.Get(ctx, "x"); return err },
		"provider.list":       func(ctx context.Context, p provider, _ box) error { _, err := p.List(ctx, nil); return err },
		"provider.start":      func(ctx context.Context, p provider, _ box) error { _, err := p.Start(ctx, "x"); return err },
		"provider.stop":       func(ctx context.Context, p provider, _ box) error { return p.Stop(ctx, "x") },
		"provider.destroy":    func(ctx context.Context, p provider, _ box) error { return p.Destroy(ctx, "x") },
		"provider.set_expiry": func(ctx context.Context, p provider, _ box) error { return p.SetExpiry(ctx, "x", time.Hour) },
		"provider.open":       func(ctx context.Context, p provider, _ box) error { _, err := p.Open(ctx, "x"); return err },
		"sandbox.run": func(ctx context.Context, _ provider, sb box) error {
			_, err := sb.Run(ctx, sandbox.Command{})
			return err
		},
		"sandbox.put_file": func(ctx context.Context, _ provider, sb box) error {
			return sb.PutFile(ctx, "/w/f", strings.NewReader("all of it"), 0o600)
		},
		"sandbox.read_file": func(ctx context.Context, _ provider, sb box) error {
			_, err := sb.ReadFile(ctx, "/w/f", 0, 1)
			return err
		},
		"sandbox.list":   func(ctx context.Context, _ provider, sb box) error { _, err := sb.List(ctx, "/w"); return err },
		"sandbox.delete": func(ctx context.Context, _ provider, sb box) error { return sb.Delete(ctx, "/w/f") },
		"shim.seal": func(ctx context.Context, _ provider, sb box) error {
			_, err := with(sb).Seal(ctx, uuid.New())
			return err
		},
		"shim.list": func(ctx context.Context, _ provider, sb box) error {
			_, err := with(sb).ListArtifacts(ctx, uuid.New())
			return err
		},
		"shim.tail": func(ctx context.Context, _ provider, sb box) error {
			_, err := with(sb).Tail(ctx, nil, time.Hour)
			return err
		},
		"shim.signal": func(ctx context.Context, _ provider, sb box) error {
			_, err := with(sb).Signal(ctx, uuid.New(), shim.TERM)
			return err
		},
	}
}

// eachFenced runs a test for each call on a fence around a provider that takes notes. The fence is open until the
// test of the call begins.
func eachFenced(t *testing.T, test func(t *testing.T, operation string, f *fence, call func(context.Context) error)) {
	t.Helper()
	for operation, call := range fencedCalls() {
		t.Run(operation, func(t *testing.T) {
			t.Parallel()
			f := &fence{inner: &noting{}}
			p := sandbox.Fence(f.inner, f.permit)
			sb, err := p.Open(t.Context(), "x")
			if err != nil {
				t.Fatal(err)
			}
			f.inner.calls, f.asked, f.done = nil, 0, 0
			test(t, operation, f, func(ctx context.Context) error { return call(ctx, p, sb) })
		})
	}
}

func TestFenceRefuses(t *testing.T) {
	t.Parallel()
	eachFenced(t, func(t *testing.T, _ string, f *fence, call func(context.Context) error) {
		f.refusal = errs.E(errs.StaleClaim, "The lease has run out.")
		points := 0
		ctx := failpoint.With(t.Context(), func(context.Context, string) failpoint.Answer { points++; return failpoint.Answer{} })
		if err := call(ctx); !errs.Is(err, errs.StaleClaim) {
			t.Errorf("the call says %v", err)
		}
		if len(f.inner.calls) > 0 || points > 0 || f.asked != 1 {
			t.Errorf("calls %q, %d points, asked %d times", f.inner.calls, points, f.asked)
		}
	})
}

func TestFenceBoundsCalls(t *testing.T) {
	t.Parallel()
	eachFenced(t, func(t *testing.T, operation string, f *fence, call func(context.Context) error) {
		f.until = time.Now().Add(time.Minute) // before the bounds that a list and a tail have of their own
		if err := call(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(f.inner.calls) != 1 || f.done != 1 {
			t.Fatalf("calls %q, %d times done", f.inner.calls, f.done)
		}
		if !f.inner.deadline.Equal(f.until) {
			t.Errorf("%s may go on until %v, the right ends %v", operation, f.inner.deadline, f.until)
		}
	})
}

func TestFenceTellsTheEndOfTheRightFromThatOfTheCaller(t *testing.T) {
	t.Parallel()
	eachFenced(t, func(t *testing.T, _ string, f *fence, call func(context.Context) error) {
		f.ended = errs.E(errs.StaleClaim, "The lease has run out.")
		if err := call(t.Context()); !errs.Is(err, errs.StaleClaim) {
			t.Errorf("a call that outlived the right says %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := call(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("a call that outlived its caller says %v", err)
		}
	})
}

func TestFencePoints(t *testing.T) {
	t.Parallel()
	injected := errors.New("injected")
	for name, c := range map[string]struct {
		point  string
		answer failpoint.Answer
		calls  int
		err    error
	}{
		"go on":  {failpoint.Before, failpoint.Answer{}, 1, nil},
		"before": {failpoint.Before, failpoint.Answer{Err: injected}, 0, injected},
		"after":  {failpoint.After, failpoint.Answer{Err: injected}, 1, injected},
		"twice":  {failpoint.Before, failpoint.Answer{Twice: true}, 2, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachFenced(t, func(t *testing.T, operation string, f *fence, call func(context.Context) error) {
				var points []string
				ctx := failpoint.With(t.Context(), func(_ context.Context, point string) failpoint.Answer {
					points = append(points, point)
					if point == operation+c.point {
						return c.answer
					}
					return failpoint.Answer{}
				})
				if err := call(ctx); !errors.Is(err, c.err) {
					t.Errorf("the call says %v, want %v", err, c.err)
				}
				want := []string{operation + failpoint.Before, operation + failpoint.After}
				if c.calls == 0 {
					want = want[:1]
				}
				if diff := cmp.Diff(want, points); diff != "" {
					t.Errorf("points: -want +got\n%s", diff)
				}
				if len(f.inner.calls) != c.calls || f.asked != 1 {
					t.Errorf("calls %q, asked %d times", f.inner.calls, f.asked)
				}
				if len(slices.Compact(f.inner.calls)) > 1 {
					t.Errorf("the second call differs: %q", f.inner.calls)
				}
			})
		})
	}
}

func TestFenceWithoutPermit(t *testing.T) {
	t.Parallel()
	inner := &noting{}
	p := sandbox.Fence(inner, nil)
	sb, err := p.Open(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	for operation, call := range fencedCalls() {
		inner.calls = nil
		if err := call(t.Context(), p, sb); err != nil || len(inner.calls) != 1 || !inner.deadline.IsZero() && operation != "shim.tail" && operation != "shim.list" {
			t.Errorf("%s: %v, calls %q until %v", operation, err, inner.calls, inner.deadline)
		}
	}
	if p.Name() != "noting" {
		t.Errorf("name %q", p.Name())
	}
}

// fence is a permit with what it has seen.
type fence struct {
	inner   *noting
	refusal error
	until   time.Time // zero: no bound
	ended   error     // why the right ends as soon as it was given; nil: it does not

	asked, done int
}

func (f *fence) permit(ctx context.Context) (context.Context, context.CancelFunc, error) {
	f.asked++
	if f.refusal != nil {
		return nil, nil, f.refusal
	}
	cancel := context.CancelFunc(func() {})
	if !f.until.IsZero() {
		ctx, cancel = context.WithDeadline(ctx, f.until)
	}
	if f.ended != nil {
		ended, end := context.WithCancelCause(ctx)
		end(f.ended)
		ctx = ended
	}
	return ctx, func() { f.done++; cancel() }, nil
}

// noting is a provider, and its sandbox, whose calls do nothing. It notes each, and the deadline of the last.
type noting struct {
	calls    []string
	deadline time.Time
}

func (n *noting) note(ctx context.Context, call string) error {
	n.calls = append(n.calls, call)
	n.deadline, _ = ctx.Deadline()
	return ctx.Err()
}

func (n *noting) Name() string { return "noting" }

func (n *noting) Create(ctx context.Context, _ sandbox.Spec) (sandbox.Info, error) {
	return sandbox.Info{}, n.note(ctx, "create")
}

func (n *noting) Get(ctx context.Context, _ string) (sandbox.Info, error) {
	return sandbox.Info{}, n.note(ctx, "get")
}

func (n *noting) List(ctx context.Context, _ map[string]string) ([]sandbox.Info, error) {
	return nil, n.note(ctx, "list")
}

func (n *noting) Start(ctx context.Context, _ string) (sandbox.Info, error) {
	return sandbox.Info{}, n.note(ctx, "start")
}
func (n *noting) Stop(ctx context.Context, _ string) error    { return n.note(ctx, "stop") }
func (n *noting) Destroy(ctx context.Context, _ string) error { return n.note(ctx, "destroy") }
func (n *noting) SetExpiry(ctx context.Context, _ string, _ time.Duration) error {
	return n.note(ctx, "set_expiry")
}

func (n *noting) Open(ctx context.Context, _ string) (sandbox.Sandbox, error) {
	return notingBox{n}, n.note(ctx, "open")
}

type notingBox struct{ n *noting }

func (b notingBox) Run(ctx context.Context, cmd sandbox.Command) (sandbox.Result, error) {
	return sandbox.Result{Stdout: []byte(`{"protocol":1,"state":"sealed","runs":[]}`)}, b.n.note(ctx, "run "+cmd.Shim)
}

func (b notingBox) PutFile(ctx context.Context, _ string, content io.Reader, _ uint32) error {
	text, err := io.ReadAll(content)
	return errors.Join(err, b.n.note(ctx, "put "+string(text)))
}

func (b notingBox) ReadFile(ctx context.Context, _ string, _, _ int64) ([]byte, error) {
	return nil, b.n.note(ctx, "read")
}

func (b notingBox) List(ctx context.Context, _ string) ([]sandbox.Entry, error) {
	return nil, b.n.note(ctx, "list files")
}
func (b notingBox) Delete(ctx context.Context, _ string) error { return b.n.note(ctx, "delete") }
