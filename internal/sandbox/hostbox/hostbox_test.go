package hostbox_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"foundry/internal/errs"
	"foundry/internal/sandbox"
	"foundry/internal/sandbox/hostbox"
)

func newBox(t *testing.T) *hostbox.Box {
	t.Helper()
	dir := t.TempDir()
	return &hostbox.Box{Workspace: dir, WorkspaceDir: dir, ShimRoot: "/shim", ShimDir: "/shim", Usable: func() error { return nil }, Env: os.Environ()}
}

// secondWriter opens the file that its reader is copied to, as a child does that is forked meanwhile, and closes it some time after the end.
type secondWriter struct {
	content io.Reader
	dir     string
	opened  *os.File
	closing atomic.Bool
}

func (w *secondWriter) Read(b []byte) (int, error) {
	n, err := w.content.Read(b)
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	found, globErr := filepath.Glob(filepath.Join(w.dir, ".put-*"))
	if globErr != nil || len(found) != 1 {
		return n, errors.Join(fs.ErrNotExist, globErr)
	}
	var openErr error
	if w.opened, openErr = os.OpenFile(found[0], os.O_WRONLY, 0); openErr != nil {
		return n, openErr
	}
	time.AfterFunc(100*time.Millisecond, func() {
		w.closing.Store(true)
		w.opened.Close()
	})
	return n, err
}

func TestPutProgramCanBeExecutedAtOnce(t *testing.T) {
	t.Parallel()
	b := newBox(t)
	w := &secondWriter{content: strings.NewReader("#!/bin/sh\nexit 7\n"), dir: b.WorkspaceDir}
	name := filepath.Join(b.Workspace, "tool")
	if err := b.PutFile(t.Context(), name, w, 0o755); err != nil {
		t.Fatal(err)
	}
	if !w.closing.Load() {
		t.Error("it is there while somebody may write to it")
	}
	r, err := b.Run(t.Context(), sandbox.Command{Argv: []string{name}})
	if err != nil || r.ExitCode != 7 {
		t.Errorf("%+v, %v", r, err)
	}
}

// Output that may go on is not all of it.
func TestRunWhoseOutputDoesNotEnd(t *testing.T) {
	t.Parallel()
	r, err := newBox(t).Run(t.Context(), sandbox.Command{Argv: []string{"sh", "-c", "sleep 8 & echo begun"}})
	if !errs.Is(err, errs.Unknown) {
		t.Errorf("%+v, %v", r, err)
	}
}
