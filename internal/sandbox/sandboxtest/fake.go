package sandboxtest

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"foundry/internal/errs"
	"foundry/internal/sandbox"
	"foundry/internal/sandbox/hostbox"
)

// idVariable marks every process of a box.
const idVariable = "FOUNDRY_SANDBOX_ID"

// Op names a method of Provider or Sandbox.
type Op string

// Ops. OpRun and those after it are methods of Sandbox.
const (
	OpCreate    Op = "create"
	OpGet       Op = "get"
	OpList      Op = "list"
	OpStart     Op = "start"
	OpStop      Op = "stop"
	OpDestroy   Op = "destroy"
	OpSetExpiry Op = "set_expiry"
	OpOpen      Op = "open"
	OpRun       Op = "run"
	OpPutFile   Op = "put_file"
	OpReadFile  Op = "read_file"
	OpListFiles Op = "list_files"
	OpDelete    Op = "delete"
)

// Fault is what happens to the next calls of an operation.
type Fault struct {
	Op Op
	// Shim narrows OpRun to a subcommand of the shim: start, seal, tail, signal.
	Shim  string
	Times int // calls that it applies to; 0 is one, negative all
	// Gate, when set, holds the call before its effect until it is closed or the call's
	// context ends.
	Gate  <-chan struct{}
	Delay time.Duration // before the effect
	// Before is returned instead of the effect; After is returned although the effect was had.
	Before, After error
	Twice         bool // the effect is had twice, as by a proxy that repeats a request
	Vanish        bool // after the call the machine is gone, with all its processes
}

// Fake is a provider for tests of the engine: real shim directories and real processes in a
// temporary folder, without isolation, and faults on demand. Safe for concurrent use.
type Fake struct {
	dir  string
	shim string

	mu     sync.Mutex
	boxes  map[string]*fakeBox
	faults []*Fault
	calls  map[Op]int
}

type fakeBox struct {
	info sandbox.Info
	dir  string

	changing sync.Mutex // held by a start and by a stop, to their ends
}

var _ sandbox.Provider = (*Fake)(nil)

// NewFake returns a fake whose sandboxes end with the test.
func NewFake(t testing.TB) *Fake {
	t.Helper()
	f := &Fake{
		dir:   t.TempDir(),
		shim:  ShimBinary(t),
		boxes: make(map[string]*fakeBox),
		calls: make(map[Op]int),
	}
	t.Cleanup(func() {
		f.mu.Lock()
		ids := slices.Collect(maps.Keys(f.boxes))
		f.mu.Unlock()
		for _, id := range ids {
			f.Vanish(id)
		}
	})
	return f
}

// Inject adds a fault; faults of one operation apply in the order of injection.
func (f *Fake) Inject(fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fault.Times == 0 {
		fault.Times = 1
	}
	f.faults = append(f.faults, &fault)
}

// Calls returns how often an operation was called, refused calls included.
func (f *Fake) Calls(op Op) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[op]
}

// Vanish ends a machine as a crash of its host does: processes killed, files gone. Get
// answers errs.NotFound from now on.
func (f *Fake) Vanish(providerID string) {
	f.mu.Lock()
	b := f.boxes[providerID]
	delete(f.boxes, providerID)
	f.mu.Unlock()
	if b != nil {
		removeBox(b.info, b.dir)
	}
}

// Break puts a machine into a state that it never leaves, such as sandbox.Failed. Its processes go on, but nobody reaches them.
func (f *Fake) Break(providerID string, state sandbox.State) {
	_ = f.with(providerID, func(b *fakeBox) { b.info.State = state }) // one that is gone is as broken
}

// Name implements sandbox.Provider.
func (f *Fake) Name() string { return "fake" }

// Create implements sandbox.Provider.
func (f *Fake) Create(ctx context.Context, spec sandbox.Spec) (info sandbox.Info, err error) {
	err = f.around(ctx, OpCreate, "", spec.ID.String(), func() error {
		info, err = f.create(spec)
		return err
	})
	return info, err
}

// Get implements sandbox.Provider.
func (f *Fake) Get(ctx context.Context, id string) (info sandbox.Info, err error) {
	err = f.around(ctx, OpGet, "", id, func() error {
		return f.with(id, func(b *fakeBox) { info = copyInfo(b.info) })
	})
	return info, err
}

// List implements sandbox.Provider.
func (f *Fake) List(ctx context.Context, labels map[string]string) (infos []sandbox.Info, err error) {
	err = f.around(ctx, OpList, "", "", func() error {
		f.mu.Lock()
		defer f.mu.Unlock()
		infos = nil
		for _, id := range slices.Sorted(maps.Keys(f.boxes)) {
			if info := f.boxes[id].info; hasLabels(info, labels) {
				infos = append(infos, copyInfo(info))
			}
		}
		return nil
	})
	return infos, err
}

// Start implements sandbox.Provider.
func (f *Fake) Start(ctx context.Context, id string) (info sandbox.Info, err error) {
	err = f.around(ctx, OpStart, "", id, func() error {
		return f.change(id, func(b *fakeBox) {
			b.info.State = sandbox.Ready
			info = copyInfo(b.info)
		}, func() {})
	})
	return info, err
}

// Stop implements sandbox.Provider.
func (f *Fake) Stop(ctx context.Context, id string) error {
	return f.around(ctx, OpStop, "", id, func() error {
		var info sandbox.Info
		return f.change(id, func(b *fakeBox) {
			b.info.State = sandbox.Stopped
			info = b.info
		}, func() { endBox(info) })
	})
}

// Destroy implements sandbox.Provider.
func (f *Fake) Destroy(ctx context.Context, id string) error {
	return f.around(ctx, OpDestroy, "", id, func() error {
		var info sandbox.Info
		var dir string
		err := f.with(id, func(b *fakeBox) {
			b.info.State = sandbox.Destroying
			info, dir = b.info, b.dir
		})
		if err != nil {
			return nil //nolint:nilerr // it is gone
		}
		// Every caller ends it, so that none returns before it has ended.
		removeBox(info, dir)
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.boxes, id)
		return nil
	})
}

// SetExpiry implements sandbox.Provider. The fake only notes it.
func (f *Fake) SetExpiry(ctx context.Context, id string, after time.Duration) error {
	return f.around(ctx, OpSetExpiry, "", id, func() error {
		return f.with(id, func(b *fakeBox) { b.info.ExpiresAt = expiry(after) })
	})
}

// Open implements sandbox.Provider.
func (f *Fake) Open(ctx context.Context, id string) (sb sandbox.Sandbox, err error) {
	err = f.around(ctx, OpOpen, "", id, func() error {
		return f.with(id, func(b *fakeBox) { sb = &fakeSandbox{fake: f, id: id, box: f.hostbox(b)} })
	})
	return sb, err
}

func (f *Fake) create(spec sandbox.Spec) (sandbox.Info, error) {
	if len(spec.Network.Allow) > 0 || spec.Network.Block {
		return sandbox.Info{}, errs.E(errs.Invalid, "The fake cannot enforce a network policy.")
	}
	id := spec.ID.String()
	f.mu.Lock()
	defer f.mu.Unlock()
	if b := f.boxes[id]; b != nil {
		return copyInfo(b.info), nil
	}
	b := &fakeBox{dir: filepath.Join(f.dir, id)}
	for _, d := range []string{"workspace", "home", "tmp", "shim"} {
		if err := os.MkdirAll(filepath.Join(b.dir, d), 0o700); err != nil {
			return sandbox.Info{}, err
		}
	}
	b.info = sandbox.Info{
		ID:          spec.ID,
		ProviderID:  id,
		State:       sandbox.Ready,
		Labels:      maps.Clone(spec.Labels),
		Workspace:   filepath.Join(b.dir, "workspace"),
		ShimRoot:    filepath.Join(b.dir, "shim"),
		ShimCommand: []string{f.shim},
		Isolation:   "none",
		CreatedAt:   time.Now(),
		ExpiresAt:   expiry(spec.ExpireAfter),
	}
	f.boxes[id] = b
	return copyInfo(b.info), nil
}

// with runs fn on a box under the lock.
func (f *Fake) with(id string, fn func(*fakeBox)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := f.boxes[id]
	if b == nil {
		return errs.E(errs.NotFound, "There is no sandbox %s.", id)
	}
	fn(b)
	return nil
}

// change runs fn on a box under the lock, and then what follows from it: a start that comes meanwhile waits, so that a stop does not end what it allows.
func (f *Fake) change(id string, fn func(*fakeBox), then func()) error {
	var changed *fakeBox
	if err := f.with(id, func(b *fakeBox) { changed = b }); err != nil {
		return err
	}
	changed.changing.Lock()
	defer changed.changing.Unlock()
	destroying := false
	err := f.with(id, func(b *fakeBox) {
		if destroying = b.info.State == sandbox.Destroying; !destroying {
			fn(b)
		}
	})
	if err == nil && destroying {
		err = errs.E(errs.Conflict, "The sandbox is being destroyed.")
	}
	if err == nil {
		then()
	}
	return err
}

// around counts a call and does to it what the next fault says.
func (f *Fake) around(ctx context.Context, op Op, sub, id string, effect func() error) error {
	fault := f.take(op, sub)
	if fault.Gate != nil {
		select {
		case <-fault.Gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if fault.Delay > 0 {
		timer := time.NewTimer(fault.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if fault.Before != nil {
		return fault.Before
	}
	err := effect()
	if fault.Twice {
		err = effect()
	}
	if fault.Vanish {
		f.Vanish(id)
	}
	if fault.After != nil {
		return fault.After
	}
	return err
}

// take counts the call and uses up one application of the first fault that fits it.
func (f *Fake) take(op Op, sub string) Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls[op]++
	for _, fault := range f.faults {
		if fault.Op == op && (fault.Shim == "" || fault.Shim == sub) && fault.Times != 0 {
			fault.Times--
			return *fault
		}
	}
	return Fault{}
}

func (f *Fake) hostbox(b *fakeBox) *hostbox.Box {
	id := b.info.ProviderID
	return &hostbox.Box{
		Workspace:    b.info.Workspace,
		WorkspaceDir: b.info.Workspace,
		ShimRoot:     b.info.ShimRoot,
		ShimDir:      b.info.ShimRoot,
		Env:          baseEnv(b.dir),
		Usable: func() error {
			state := sandbox.State("")
			err := f.with(id, func(b *fakeBox) { state = b.info.State })
			if err == nil && state != sandbox.Ready {
				err = errs.E(errs.Unavailable, "The sandbox is %s.", state)
			}
			return err
		},
	}
}

func copyInfo(info sandbox.Info) sandbox.Info {
	info.Labels = maps.Clone(info.Labels)
	return info
}

func hasLabels(info sandbox.Info, labels map[string]string) bool {
	for k, v := range labels {
		if info.Labels[k] != v {
			return false
		}
	}
	return true
}

func expiry(after time.Duration) time.Time {
	if after == 0 {
		return time.Time{}
	}
	return time.Now().Add(after)
}

func baseEnv(dir string) []string {
	return []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=" + filepath.Join(dir, "home"),
		"TMPDIR=" + filepath.Join(dir, "tmp"),
		"LANG=C.UTF-8",
		idVariable + "=" + filepath.Base(dir),
	}
}
