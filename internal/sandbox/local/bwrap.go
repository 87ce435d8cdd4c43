package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"foundry/internal/errs"
	"foundry/internal/sandbox"
)

// Where things are for a command under bubblewrap.
const (
	insideWorkspace = "/workspace"
	insideHome      = "/home/foundry"
	insideShim      = "/foundry/shim"
	insideFiles     = "/foundry/files"
)

const probeTimeout = 30 * time.Second // for two runs of it

// bubblewrap is what the probe found out.
type bubblewrap struct {
	program string
	exposed []string // folders that commands may read, under their own names
	noNet   bool     // a network namespace can be made
}

// chooseLevel probes bubblewrap unless the plain level is forced.
func (p *Provider) chooseLevel(ctx context.Context, cfg Config) error {
	switch cfg.Level {
	case "", Bwrap, Process:
	default:
		return errs.E(errs.Invalid, "There is no local sandbox level %q; it is bwrap or process.", cfg.Level)
	}
	var err error
	if cfg.Level != Process {
		if err = p.probe(ctx); err == nil {
			p.level = Bwrap
			cfg.Log.Info().Str("isolation", string(Bwrap)).Bool("can_block_network", p.bwrap.noNet).Msg("local sandbox ready")
			return nil
		}
		if errors.Is(err, errUnproven) {
			// Not to know is no reason to run without isolation.
			return errs.E(errs.Unavailable, "Bubblewrap is installed but did not answer; start again, or set FOUNDRY_LOCAL_SANDBOX=process to run without isolation.").Because(err)
		}
		if cfg.Level == Bwrap {
			return errs.E(errs.Unavailable, "The local sandbox level bwrap does not work on this machine.").Because(err)
		}
	}
	p.level = Process
	cfg.Log.Warn().Str("isolation", string(Process)).AnErr("bwrap", err).
		Msg("commands run WITHOUT isolation: they can read and change whatever this user can; install bubblewrap to isolate them")
	return nil
}

// probe runs the shim behind the very wrapper that sandboxes get, with and without a network of
// its own.
func (p *Provider) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	program, ok := find(p.path, "bwrap")
	if !ok {
		return errors.New("bwrap is not in the PATH")
	}
	p.bwrap = bubblewrap{program: program, exposed: p.exposed()}
	if err := syncEtc(p.file("etc")); err != nil {
		return fmt.Errorf("copying parts of /etc: %w", err)
	}
	dir := p.file("sandboxes", ".probe-"+uuid.NewString())
	for _, name := range []string{"workspace", "home", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			return err
		}
	}
	defer os.RemoveAll(dir)
	if err := p.try(ctx, dir, sandbox.Spec{}); err != nil {
		return err
	}
	err := p.try(ctx, dir, sandbox.Spec{Network: sandbox.Network{Block: true}})
	if errors.Is(err, errUnproven) {
		return err
	}
	p.bwrap.noNet = err == nil
	return nil
}

func (p *Provider) try(ctx context.Context, dir string, spec sandbox.Spec) error {
	argv, err := p.wrapper(dir, spec)
	if err != nil {
		return err
	}
	argv = slices.Concat(argv, []string{"--", insideShim}, p.shim[1:], []string{"version"})
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = []string{"PATH=" + p.path}
	out, err := cmd.CombinedOutput()
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w", errUnproven, context.Cause(ctx))
	case err != nil:
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// errUnproven is a probe that ended before it could tell.
var errUnproven = errors.New("the probe of bubblewrap did not end by itself")

// enforceable refuses what this provider cannot keep to; it never opens what should be closed.
func (p *Provider) enforceable(spec sandbox.Spec) error {
	switch {
	case len(spec.Network.Allow) > 0:
		return errs.E(errs.Invalid, "The local sandbox cannot enforce a network allow list.")
	case spec.Network.Block && p.level != Bwrap:
		return errs.E(errs.Invalid, "The local sandbox cannot block the network without bubblewrap.")
	case spec.Network.Block && !p.bwrap.noNet:
		return errs.E(errs.Invalid, "The local sandbox cannot block the network on this machine.")
	case len(spec.Volumes) > 0 && p.level != Bwrap:
		return errs.E(errs.Invalid, "The local sandbox cannot mount volumes without bubblewrap.")
	}
	name := regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)
	for _, v := range spec.Volumes {
		if !name.MatchString(v.Name) {
			return errs.E(errs.Invalid, "%q is not a name for a volume.", v.Name)
		}
		if !mountable(v.Path) {
			return errs.E(errs.Invalid, "No volume can be mounted at %q.", v.Path)
		}
	}
	return nil
}

func mountable(path string) bool {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path || path == "/" || path == insideWorkspace {
		return false
	}
	for _, taken := range []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/proc", "/dev", "/foundry"} {
		if path == taken || strings.HasPrefix(path, taken+"/") {
			return false
		}
	}
	return true
}

// wrapper returns bubblewrap's arguments for the sandbox in dir. The root is empty but for what is named here.
func (p *Provider) wrapper(dir string, spec sandbox.Spec) ([]string, error) {
	argv := []string{
		p.bwrap.program,
		"--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--hostname", "sandbox",
	}
	if !spec.Network.Block {
		argv = append(argv, "--share-net")
	}
	for _, folder := range p.bwrap.exposed {
		argv = append(argv, "--ro-bind", folder, folder)
	}
	argv = append(argv, systemFolders()...)
	argv = append(argv, "--ro-bind", p.file("etc"), "/etc")
	for _, name := range etcLive() {
		argv = append(argv, "--ro-bind-try", "/etc/"+name, "/etc/"+name)
	}
	if slices.ContainsFunc(p.bwrap.exposed, func(folder string) bool { return below(folder, p.state) }) {
		argv = append(argv, "--tmpfs", p.state)
	}
	argv = append(argv,
		"--proc", "/proc", "--dev", "/dev", "--dir", "/run", "--symlink", "/tmp", "/var/tmp",
		"--bind", filepath.Join(dir, "tmp"), "/tmp",
		"--bind", filepath.Join(dir, "home"), insideHome,
		"--bind", filepath.Join(dir, "workspace"), insideWorkspace,
		"--ro-bind", p.shim[0], insideShim)
	for _, v := range spec.Volumes {
		folder := p.file("volumes", v.Name)
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return nil, fmt.Errorf("making volume %s: %w", v.Name, err)
		}
		argv = append(argv, "--bind", folder, v.Path)
	}
	// What is written elsewhere would be gone after the node; an error says so at once.
	return append(argv, "--dir", insideFiles, "--remount-ro", "/"), nil
}

// systemFolders returns what makes /bin and its like: links into /usr, or folders of their own.
func systemFolders() (argv []string) {
	for _, dir := range []string{"/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"} {
		if target, err := os.Readlink(dir); err == nil {
			argv = append(argv, "--symlink", target, dir)
		} else if info, err := os.Stat(dir); err == nil && info.IsDir() {
			argv = append(argv, "--ro-bind", dir, dir)
		}
	}
	return argv
}

// exposed returns /usr and the folders of well-known toolchains that lie elsewhere, as those of
// version managers do.
func (p *Provider) exposed() []string {
	folders := []string{"/usr"}
	for _, tool := range []string{"node", "python3", "go", "java", "ruby", "deno", "bun", "cargo"} {
		program, ok := find(p.path, tool)
		if !ok {
			continue
		}
		resolved, err := filepath.EvalSymlinks(program)
		if err != nil {
			continue
		}
		for _, name := range []string{program, resolved} {
			folder := filepath.Dir(filepath.Dir(name)) // PREFIX/bin/tool
			if filepath.Base(filepath.Dir(name)) != "bin" || strings.Count(folder, "/") < 2 ||
				slices.ContainsFunc(folders, func(f string) bool { return below(f, folder) }) || isHome(folder) {
				continue
			}
			folders = append(folders, folder)
		}
	}
	return folders
}

// isHome keeps whole homes out: ~/bin/node would expose all of ~.
func isHome(folder string) bool {
	parent := filepath.Dir(folder)
	return parent == "/home" || parent == "/Users" || filepath.Base(folder) == ".local"
}

// find looks a program up in a PATH that need not be this process's.
func find(path, name string) (string, bool) {
	for _, dir := range filepath.SplitList(path) {
		program := filepath.Join(dir, name)
		info, err := os.Stat(program)
		if filepath.IsAbs(dir) && err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0 {
			return program, true
		}
	}
	return "", false
}

// below reports whether path is folder or in it.
func below(folder, path string) bool {
	return path == folder || strings.HasPrefix(path, strings.TrimSuffix(folder, "/")+"/")
}
