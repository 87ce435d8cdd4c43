package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"foundry/internal/errs"
	"foundry/internal/sandbox"
	"foundry/internal/sandbox/hostbox"
	"foundry/internal/shim"
)

// Level is how strongly commands are kept apart from this machine.
type Level string

// Levels.
const (
	Bwrap   Level = "bwrap"
	Process Level = "process"
)

const (
	defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	// The guard must not end what the rules of the reconciler still keep: 7 days parked.
	defaultExpiry = 8 * 24 * time.Hour
	idVariable    = "FOUNDRY_SANDBOX_ID" // marks every process of a sandbox
)

// Config is what New needs. Only StateDir has no default.
type Config struct {
	// StateDir holds everything; it is made with mode 0700. It may be relative.
	StateDir string
	// Level forces a level; empty takes bwrap where it works.
	Level Level
	// Executable is the program that is the shim when called with ShimArgs; empty is the
	// running one with the argument shim.
	Executable string
	ShimArgs   []string
	// Path is the PATH of commands, in which bwrap and toolchains are looked for too.
	Path string
	Log  zerolog.Logger
}

// Provider is the local sandbox.Provider. Safe for concurrent use by several processes.
type Provider struct {
	state string
	id    string
	shim  []string
	path  string
	level Level
	bwrap bubblewrap
}

var _ sandbox.Provider = (*Provider)(nil)

// New prepares the state folder and probes the level. A forced level that does not work is an error
// that says why.
func New(ctx context.Context, cfg Config) (*Provider, error) {
	state, err := filepath.Abs(cfg.StateDir)
	if err != nil || cfg.StateDir == "" {
		return nil, errs.E(errs.Invalid, "The local sandbox needs a state folder.").Because(err)
	}
	for _, dir := range []string{"", "bin", "volumes", "sandboxes"} {
		if err := os.MkdirAll(filepath.Join(state, dir), 0o700); err != nil {
			return nil, fmt.Errorf("making the state folder: %w", err)
		}
	}
	// What is bound into sandboxes is bound by its real name.
	if state, err = filepath.EvalSymlinks(state); err != nil {
		return nil, fmt.Errorf("resolving the state folder: %w", err)
	}
	p := &Provider{state: state, path: cmp.Or(cfg.Path, defaultPath)}
	if p.id, err = folderID(state); err != nil {
		return nil, fmt.Errorf("naming the state folder: %w", err)
	}
	if p.shim, err = stableShim(filepath.Join(state, "bin"), cfg.Executable, cfg.ShimArgs); err != nil {
		return nil, fmt.Errorf("copying the shim: %w", err)
	}
	if err := errors.Join(p.dropOldShims(), p.dropUnfinished()); err != nil {
		cfg.Log.Warn().Err(err).Msg("leftovers in the state folder could not be removed")
	}
	if err := p.chooseLevel(ctx, cfg); err != nil {
		return nil, err
	}
	return p, nil
}

// Level returns the level of new sandboxes.
func (p *Provider) Level() Level { return p.level }

// ID names the state folder, wherever it is mounted: eight hexadecimal digits, chosen when it was made. Two programs on one machine that
// have different state folders cannot reach each other's sandboxes.
func (p *Provider) ID() string { return p.id }

// StateDir returns the state folder by its real name.
func (p *Provider) StateDir() string { return p.state }

// Name implements sandbox.Provider.
func (p *Provider) Name() string { return "local" }

// Create implements sandbox.Provider.
func (p *Provider) Create(ctx context.Context, spec sandbox.Spec) (sandbox.Info, error) {
	if err := ctx.Err(); err != nil {
		return sandbox.Info{}, err
	}
	if spec.ID == uuid.Nil {
		return sandbox.Info{}, errs.E(errs.Invalid, "A sandbox needs an id.")
	}
	if err := p.enforceable(spec); err != nil {
		return sandbox.Info{}, err
	}
	id := spec.ID.String()
	info, err := p.info(id)
	if !errs.Is(err, errs.NotFound) {
		return info, err
	}
	if err := p.build(spec); err != nil {
		return sandbox.Info{}, fmt.Errorf("creating sandbox %s: %w", id, err)
	}
	return p.info(id)
}

// Get implements sandbox.Provider.
func (p *Provider) Get(ctx context.Context, providerID string) (sandbox.Info, error) {
	if err := ctx.Err(); err != nil {
		return sandbox.Info{}, err
	}
	return p.info(providerID)
}

// List implements sandbox.Provider. It also destroys what has expired, since nothing else here
// runs by itself.
func (p *Provider) List(ctx context.Context, labels map[string]string) ([]sandbox.Info, error) {
	entries, err := os.ReadDir(p.file("sandboxes"))
	if err != nil {
		return nil, fmt.Errorf("listing sandboxes: %w", err)
	}
	var infos []sandbox.Info
	for _, e := range entries {
		info, err := p.info(e.Name())
		if errs.Is(err, errs.NotFound) {
			continue // just destroyed, or one that is being built
		}
		if err != nil {
			return nil, err
		}
		if time.Now().After(info.ExpiresAt) {
			if err := p.Destroy(ctx, info.ProviderID); err != nil {
				return nil, err
			}
			continue
		}
		if hasLabels(info, labels) {
			infos = append(infos, info)
		}
	}
	return infos, nil
}

// Start implements sandbox.Provider.
func (p *Provider) Start(ctx context.Context, providerID string) (sandbox.Info, error) {
	if err := p.update(ctx, providerID, func(r *record) { r.State = sandbox.Ready }); err != nil {
		return sandbox.Info{}, err
	}
	return p.info(providerID)
}

// Stop implements sandbox.Provider.
func (p *Provider) Stop(ctx context.Context, providerID string) error {
	// Under the lock to the end: a start that comes meanwhile waits, and what it allows is not ended here.
	return p.updateThen(ctx, providerID, func(r *record) { r.State = sandbox.Stopped }, func() error { return p.endAll(providerID) })
}

// Destroy implements sandbox.Provider. It takes up to some seconds where processes are slow to die.
func (p *Provider) Destroy(ctx context.Context, providerID string) error {
	err := p.update(ctx, providerID, func(r *record) { r.State = sandbox.Destroying })
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := p.endAll(providerID); err != nil {
		return err
	}
	if err := hostbox.RemoveAll(p.dir(providerID)); err != nil {
		return fmt.Errorf("removing sandbox %s: %w", providerID, err)
	}
	// A call that had begun before the state was written may have started something since.
	return p.endAll(providerID)
}

// SetExpiry implements sandbox.Provider.
func (p *Provider) SetExpiry(ctx context.Context, providerID string, after time.Duration) error {
	expires := time.Now().Add(cmp.Or(after, defaultExpiry))
	return p.update(ctx, providerID, func(r *record) { r.ExpiresAt = expires })
}

// Open implements sandbox.Provider.
func (p *Provider) Open(ctx context.Context, providerID string) (sandbox.Sandbox, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	info, err := p.info(providerID)
	if err != nil {
		return nil, err
	}
	return &hostbox.Box{
		Workspace:    info.Workspace,
		WorkspaceDir: filepath.Join(p.dir(providerID), "workspace"),
		ShimRoot:     info.ShimRoot,
		ShimDir:      info.ShimRoot,
		Env:          p.environment(info),
		Usable:       func() error { return p.usable(providerID) },
	}, nil
}

func (p *Provider) usable(providerID string) error {
	info, err := p.info(providerID)
	if err == nil && info.State != sandbox.Ready {
		err = errs.E(errs.Unavailable, "The sandbox is %s.", info.State)
	}
	return err
}

// environment is what commands see beside what they are given.
func (p *Provider) environment(info sandbox.Info) []string {
	home, tmp := filepath.Join(p.dir(info.ProviderID), "home"), filepath.Join(p.dir(info.ProviderID), "tmp")
	if info.Isolation == string(Bwrap) {
		home, tmp = insideHome, "/tmp"
	}
	return []string{
		"PATH=" + p.path,
		"HOME=" + home,
		"TMPDIR=" + tmp,
		"LANG=C.UTF-8",
		idVariable + "=" + info.ProviderID,
	}
}

func (p *Provider) endAll(providerID string) error {
	err := shim.EndAll(filepath.Join(p.dir(providerID), "shim"), idVariable+"="+providerID)
	if err != nil {
		return errs.E(errs.Unavailable, "Processes of the sandbox are still running.").Because(err)
	}
	return nil
}

func (p *Provider) file(elem ...string) string {
	return filepath.Join(append([]string{p.state}, elem...)...)
}

func (p *Provider) dir(providerID string) string { return p.file("sandboxes", providerID) }

func hasLabels(info sandbox.Info, labels map[string]string) bool {
	for k, v := range labels {
		if info.Labels[k] != v {
			return false
		}
	}
	return true
}
