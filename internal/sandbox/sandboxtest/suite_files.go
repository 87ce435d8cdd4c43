package sandboxtest

import (
	"bytes"
	"context"
	"path"
	"strings"
	"testing"

	"foundry/internal/errs"
	"foundry/internal/sandbox"
)

func testFiles(t *testing.T, h Harness) {
	b := newBox(t, h)
	name := path.Join(b.info.Workspace, "some/folder/tool.sh")
	noError(t, b.sb.PutFile(t.Context(), name, strings.NewReader("replaced"), 0o600))
	content := "#!/bin/sh\necho \x00\xff\r\n"
	noError(t, b.sb.PutFile(t.Context(), name, strings.NewReader(content), 0o755))
	for _, r := range []struct {
		offset, limit int64
		want          string
	}{
		{0, 1000, content},
		{2, 3, content[2:5]},
		{int64(len(content)) - 1, 5, content[len(content)-1:]},
		{int64(len(content)), 5, ""},
		{5000, 5, ""},
	} {
		got, err := b.sb.ReadFile(t.Context(), name, r.offset, r.limit)
		noError(t, err)
		equal(t, "the content", string(got), r.want)
	}
	equal(t, "exit code of the put file", b.follow(b.script("./some/folder/tool.sh")).exit.ExitCode, 0)

	entries, err := b.sb.List(t.Context(), path.Join(b.info.Workspace, "some"))
	noError(t, err)
	equal(t, "entries", len(entries), 1)
	equal(t, "the entry", entries[0], sandbox.Entry{Name: "folder", Kind: sandbox.Folder})
	entries, err = b.sb.List(t.Context(), path.Dir(name))
	noError(t, err)
	equal(t, "the entry", entries[0], sandbox.Entry{Name: "tool.sh", Kind: sandbox.File, Size: int64(len(content))})

	for range 2 {
		noError(t, b.sb.Delete(t.Context(), path.Join(b.info.Workspace, "some")))
	}
	_, err = b.sb.ReadFile(t.Context(), name, 0, 1)
	wantCode(t, err, errs.NotFound)
	_, err = b.sb.List(t.Context(), path.Dir(name))
	wantCode(t, err, errs.NotFound)
}

// A command may put links and pipes where the worker reads later.
func testFilesOutside(t *testing.T, h Harness) {
	b := newBox(t, h)
	id := b.script("ln -s /etc/passwd file; ln -s /etc folder; mkfifo pipe; ln -s / root")
	equal(t, "exit code", b.follow(id).exit.ExitCode, 0)
	ws := b.info.Workspace
	for _, name := range []string{"/etc/passwd", "etc/passwd", ws + "/../x", ws + "/file", ws + "/folder/passwd", ws + "/pipe", ws + "/root/etc/passwd"} {
		_, err := b.sb.ReadFile(t.Context(), name, 0, 10)
		wantCode(t, err, errs.Invalid)
	}
	for _, name := range []string{"/tmp/x", ws + "/folder/x", ws + "/root/tmp/x"} {
		wantCode(t, b.sb.PutFile(t.Context(), name, strings.NewReader("x"), 0o600), errs.Invalid)
	}
	wantCode(t, b.sb.Delete(t.Context(), "/tmp/x"), errs.Invalid)
	wantCode(t, b.sb.Delete(t.Context(), ws), errs.Invalid)
	entries, err := b.sb.List(t.Context(), ws)
	noError(t, err)
	for _, e := range entries {
		equal(t, e.Name, e.Kind, sandbox.Other)
	}
}

func testRun(t *testing.T, h Harness) {
	b := newBox(t, h)
	r, err := b.sb.Run(t.Context(), sandbox.Command{
		Argv:  []string{"sh", "-c", "cat; printf '%s' \"$GREETING\"; echo not this >&2; exit 7"},
		Env:   []string{"GREETING=hello"},
		Stdin: []byte("in "),
	})
	noError(t, err)
	equal(t, "exit code", r.ExitCode, 7)
	equal(t, "stdout", string(r.Stdout), "in hello")
	r, err = b.sb.Run(t.Context(), sandbox.Command{Argv: []string{"head", "-c", "1000000", "/dev/zero"}})
	noError(t, err)
	equal(t, "much output", bytes.Equal(r.Stdout, make([]byte, 1000000)), true)
	_, err = b.sb.Run(t.Context(), sandbox.Command{Argv: []string{"head", "-c", "5000000", "/dev/zero"}})
	if err == nil {
		t.Fatal("5 MB of output were taken")
	}
}

func testRunContext(t *testing.T, h Harness) {
	b := newBox(t, h)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := b.sb.Run(ctx, sandbox.Command{Argv: []string{"sh", "-c", "touch running; exec sleep 1000"}})
		ended <- err
	}()
	// A call that has not begun when its context ends has another error.
	eventually(t, "the command runs", func() bool {
		entries, err := b.sb.List(t.Context(), b.info.Workspace)
		noError(t, err)
		return len(entries) > 0
	})
	cancel()
	wantCode(t, <-ended, errs.Unknown)
}
