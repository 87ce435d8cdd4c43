package local_test

import (
	"bytes"
	stdcontext "context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"foundry/internal/errs"
	"foundry/internal/sandbox"
	"foundry/internal/sandbox/hostbox"
	"foundry/internal/sandbox/local"
)

// context is the test's for its cleanups, where t.Context has ended.
func context(t *testing.T) stdcontext.Context { return stdcontext.WithoutCancel(t.Context()) }

func TestLevelCanBeForced(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	cfg := config(t, local.Process)
	cfg.Log = zerolog.New(&log)
	p, err := local.New(t.Context(), cfg)
	noError(t, err)
	b := create(t, p, sandbox.Spec{})
	if p.Level() != local.Process || b.info.Isolation != "process" {
		t.Errorf("the level is %s, shown as %s", p.Level(), b.info.Isolation)
	}
	if !strings.Contains(log.String(), `"level":"warn"`) || !strings.Contains(log.String(), "WITHOUT isolation") {
		t.Errorf("the log has no warning: %s", &log)
	}

	cfg.Level = local.Bwrap
	cfg.Path = t.TempDir() // without bwrap
	if _, err := local.New(t.Context(), cfg); !errs.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), "not in the PATH") {
		t.Errorf("a forced level that does not work: %v", err)
	}
	cfg.Level = ""
	p, err = local.New(t.Context(), cfg)
	if err != nil || p.Level() != local.Process {
		t.Errorf("without bwrap, the level is %v, %v", p.Level(), err)
	}
	cfg.Level = "docker"
	if _, err := local.New(t.Context(), cfg); !errs.Is(err, errs.Invalid) {
		t.Errorf("an unknown level: %v", err)
	}
}

// A bwrap that is there and does not work, as where user namespaces are forbidden.
func TestBrokenBwrapIsNoLevel(t *testing.T) {
	t.Parallel()
	cfg := config(t, "")
	cfg.Path = t.TempDir()
	script := "#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n"
	writeProgram(t, filepath.Join(cfg.Path, "bwrap"), strings.NewReader(script))
	p, err := local.New(t.Context(), cfg)
	if err != nil || p.Level() != local.Process {
		t.Errorf("the level is %v, %v", p.Level(), err)
	}
	cfg.Level = local.Bwrap
	if _, err := local.New(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "No permissions") {
		t.Errorf("a forced level that does not work: %v", err)
	}
}

func TestShimOutlivesItsOriginal(t *testing.T) {
	t.Parallel()
	cfg := config(t, local.Process)
	original := filepath.Join(t.TempDir(), "foundry")
	copyProgram(t, original, cfg.Executable)
	cfg.Executable = original
	first, err := local.New(t.Context(), cfg)
	noError(t, err)
	noError(t, os.Remove(original))
	b := create(t, first, sandbox.Spec{})
	if out := runScript(t, b, "echo works"); out != "works\n" {
		t.Errorf("got %q", out)
	}

	// Copies that nobody needs go when they are old; what a sandbox was built with stays.
	old := time.Now().Add(-2 * time.Hour)
	noError(t, os.Chtimes(b.info.ShimCommand[0], old, old))
	unused := filepath.Join(cfg.StateDir, "bin", "shim-unused")
	copyProgram(t, unused, b.info.ShimCommand[0])
	noError(t, os.Chtimes(unused, old, old))
	young := filepath.Join(cfg.StateDir, "bin", "shim-young")
	copyProgram(t, young, unused)
	cfg.Executable = filepath.Join(t.TempDir(), "rebuilt")
	copyProgram(t, cfg.Executable, young)
	f, err := os.OpenFile(cfg.Executable, os.O_WRONLY|os.O_APPEND, 0)
	noError(t, err)
	_, err = f.WriteString("other")
	noError(t, errors.Join(err, f.Close()))
	second, err := local.New(t.Context(), cfg)
	noError(t, err)
	for name, want := range map[string]bool{b.info.ShimCommand[0]: true, young: true, unused: false} {
		if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) == want {
			t.Errorf("%s: %v, want it there: %v", name, err, want)
		}
	}
	info, err := second.Get(t.Context(), b.info.ProviderID)
	noError(t, err)
	if info.ShimCommand[0] == b.info.ShimCommand[0] {
		t.Error("a rebuilt worker calls the old shim")
	}
}

func TestStateFolderIsPrivate(t *testing.T) {
	t.Parallel()
	cfg := config(t, local.Process)
	cfg.StateDir = filepath.Join(t.TempDir(), "new", "state")
	_, err := local.New(t.Context(), cfg)
	noError(t, err)
	info, err := os.Stat(cfg.StateDir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("it has mode %v, %v", info.Mode(), err)
	}
	cfg.StateDir = ""
	if _, err := local.New(t.Context(), cfg); !errs.Is(err, errs.Invalid) {
		t.Errorf("no state folder: %v", err)
	}
}

func TestListDestroysWhatHasExpired(t *testing.T) {
	t.Parallel()
	p := newProvider(t, local.Process)
	expired, kept := create(t, p, sandbox.Spec{}), create(t, p, sandbox.Spec{})
	noError(t, p.SetExpiry(t.Context(), expired.info.ProviderID, time.Nanosecond))
	listed, err := p.List(t.Context(), nil)
	noError(t, err)
	if len(listed) != 1 || listed[0].ProviderID != kept.info.ProviderID {
		t.Errorf("listed %+v", listed)
	}
	if _, err := p.Get(t.Context(), expired.info.ProviderID); !errs.Is(err, errs.NotFound) {
		t.Errorf("the expired one: %v", err)
	}
}

// A removal that a crash interrupted shows as destroying, and is completed.
func TestHalfRemovedSandbox(t *testing.T) {
	t.Parallel()
	p := newProvider(t, local.Process)
	for _, complete := range []func(id string) error{
		func(id string) error { return p.Destroy(t.Context(), id) },
		func(string) error { _, err := p.List(t.Context(), nil); return err },
	} {
		b := create(t, p, sandbox.Spec{})
		noError(t, os.Remove(filepath.Join(p.StateDir(), "sandboxes", b.info.ProviderID, "record.json")))
		info, err := p.Get(t.Context(), b.info.ProviderID)
		if err != nil || info.State != sandbox.Destroying {
			t.Fatalf("it is %s, %v", info.State, err)
		}
		if _, err := p.Start(t.Context(), b.info.ProviderID); !errs.Is(err, errs.Conflict) {
			t.Fatalf("a start of it: %v", err)
		}
		noError(t, complete(b.info.ProviderID))
		if _, err := p.Get(t.Context(), b.info.ProviderID); !errs.Is(err, errs.NotFound) {
			t.Fatalf("after it: %v", err)
		}
	}
}

func TestUnfinishedFoldersAreRemoved(t *testing.T) {
	t.Parallel()
	cfg := config(t, local.Process)
	_, err := local.New(t.Context(), cfg)
	noError(t, err)
	old, young := filepath.Join(cfg.StateDir, "sandboxes", ".old"), filepath.Join(cfg.StateDir, "sandboxes", ".young")
	noError(t, errors.Join(os.Mkdir(old, 0o700), os.Mkdir(young, 0o700)))
	before := time.Now().Add(-2 * time.Hour)
	noError(t, os.Chtimes(old, before, before))
	p, err := local.New(t.Context(), cfg)
	noError(t, err)
	for name, want := range map[string]bool{old: false, young: true} {
		if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) == want {
			t.Errorf("%s: %v", name, err)
		}
	}
	if listed, err := p.List(t.Context(), nil); err != nil || len(listed) != 0 {
		t.Errorf("listed %+v, %v", listed, err)
	}
}

// Two processes drive one state folder; nothing is in memory only.
func TestAnotherProcessAttaches(t *testing.T) {
	t.Parallel()
	cfg := config(t, local.Process)
	one, err := local.New(t.Context(), cfg)
	noError(t, err)
	two, err := local.New(t.Context(), cfg)
	noError(t, err)
	b := create(t, one, sandbox.Spec{Labels: map[string]string{"a": "b"}})
	put(t, b, "file")
	sb, err := two.Open(t.Context(), b.info.ProviderID)
	noError(t, err)
	if content, err := sb.ReadFile(t.Context(), b.info.Workspace+"/file", 0, 10); err != nil || string(content) != "x" {
		t.Errorf("the other reads %q, %v", content, err)
	}
	noError(t, two.Destroy(t.Context(), b.info.ProviderID))
	if _, err := b.sb.List(t.Context(), b.info.Workspace); !errs.Is(err, errs.NotFound) {
		t.Errorf("the first one's handle: %v", err)
	}
}

func copyProgram(t *testing.T, to, from string) {
	t.Helper()
	in, err := os.Open(from)
	noError(t, err)
	defer in.Close()
	writeProgram(t, to, in)
}

func writeProgram(t *testing.T, to string, content io.Reader) {
	t.Helper()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o700)
	noError(t, err)
	_, err = io.Copy(out, content)
	noError(t, errors.Join(err, out.Close()))
	written, err := os.Open(to)
	noError(t, err)
	hostbox.UntilExecutable(written)
	noError(t, written.Close())
}
