// Package hostbox is sandbox.Sandbox over folders of this machine: what the local provider
// and the fake have in common.
package hostbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"foundry/internal/errs"
	"foundry/internal/sandbox"
)

// Box is a sandbox whose files are folders of this machine and whose trusted commands are
// processes of it. Its fields are set once. Safe for concurrent use.
type Box struct {
	// Workspace and ShimRoot are the paths that callers use; the folders behind them are
	// WorkspaceDir and ShimDir. They differ where commands see another root.
	Workspace, WorkspaceDir string
	ShimRoot, ShimDir       string
	// Env is the whole environment of Run before the command's own.
	Env []string
	// Usable says why the box cannot be used, or nil; asked before every call.
	Usable func() error
}

var _ sandbox.Sandbox = (*Box)(nil)

// PutFile implements sandbox.Sandbox.
func (b *Box) PutFile(ctx context.Context, name string, content io.Reader, mode uint32) error {
	root, rel, err := b.open(ctx, name)
	if err != nil {
		return err
	}
	defer root.Close()
	dir := path.Dir(rel)
	if err := root.MkdirAll(dir, 0o700); err != nil {
		return translate(err, name)
	}
	tmp := path.Join(dir, ".put-"+uuid.NewString())
	if err := write(root, tmp, content, fs.FileMode(mode)); err != nil {
		return errors.Join(translate(err, name), ignoreMissing(root.Remove(tmp)))
	}
	if err := root.Rename(tmp, rel); err != nil {
		return errors.Join(translate(err, name), ignoreMissing(root.Remove(tmp)))
	}
	return nil
}

// ReadFile implements sandbox.Sandbox.
func (b *Box) ReadFile(ctx context.Context, name string, offset, limit int64) ([]byte, error) {
	root, rel, err := b.open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	// A fifo must not block the open, and is refused below.
	f, err := root.OpenFile(rel, os.O_RDONLY|nonblock, 0)
	if err != nil {
		return nil, translate(err, name)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, translate(err, name)
	}
	if !info.Mode().IsRegular() {
		return nil, errs.E(errs.Invalid, "%s is not a regular file.", name)
	}
	size := min(limit, info.Size()-offset)
	if size <= 0 {
		return nil, nil
	}
	buf := make([]byte, size)
	n, err := f.ReadAt(buf, offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, translate(err, name)
	}
	return buf[:n], nil
}

// List implements sandbox.Sandbox.
func (b *Box) List(ctx context.Context, name string) ([]sandbox.Entry, error) {
	root, rel, err := b.open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	found, err := fs.ReadDir(root.FS(), rel)
	if err != nil {
		return nil, translate(err, name)
	}
	entries := make([]sandbox.Entry, 0, len(found))
	for _, e := range found {
		entry := sandbox.Entry{Name: e.Name(), Kind: sandbox.Other}
		info, err := e.Info()
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return nil, translate(err, name)
		case info.IsDir():
			entry.Kind = sandbox.Folder
		case info.Mode().IsRegular():
			entry.Kind, entry.Size = sandbox.File, info.Size()
		}
		entries = append(entries, entry)
	}
	return entries, nil
}

// Delete implements sandbox.Sandbox.
func (b *Box) Delete(ctx context.Context, name string) error {
	root, rel, err := b.open(ctx, name)
	if err != nil {
		return err
	}
	defer root.Close()
	if rel == "." {
		return errs.E(errs.Invalid, "%s itself cannot be deleted.", name)
	}
	return translate(ignoreMissing(root.RemoveAll(rel)), name)
}

// open returns the folder that name is in, which keeps links from leading out of it, and the
// path below it.
func (b *Box) open(ctx context.Context, name string) (root *os.Root, rel string, err error) {
	if err := ctx.Err(); err != nil {
		return nil, "", err
	}
	if err := b.Usable(); err != nil {
		return nil, "", err
	}
	for _, m := range [][2]string{{b.ShimRoot, b.ShimDir}, {b.Workspace, b.WorkspaceDir}} {
		if rel, ok := below(m[0], name); ok {
			root, err := os.OpenRoot(m[1])
			if err != nil {
				return nil, "", translate(err, name)
			}
			return root, rel, nil
		}
	}
	return nil, "", errs.E(errs.Invalid, "%s is outside of the sandbox's folders.", name)
}

func below(folder, name string) (rel string, ok bool) {
	if !path.IsAbs(name) {
		return "", false
	}
	rel, err := filepath.Rel(folder, path.Clean(name))
	if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
		return "", false
	}
	return rel, true
}

func write(root *os.Root, name string, content io.Reader, mode fs.FileMode) error {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	err = errors.Join(err, f.Chmod(mode), f.Close())
	if err != nil || mode&0o111 == 0 {
		return err
	}
	if program, err := root.Open(name); err == nil { // one that nobody may read is a program as well
		UntilExecutable(program)
		program.Close()
	}
	return nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func translate(err error, name string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return errs.E(errs.NotFound, "There is no %s in the sandbox.", name).Because(err)
	case errors.Is(err, fs.ErrInvalid), isEscape(err):
		return errs.E(errs.Invalid, "%s cannot be used.", name).Because(err)
	}
	return fmt.Errorf("using %s: %w", strconv.Quote(name), err)
}

// isEscape recognises the refusal of os.Root to follow a link to the outside, which has
// no exported error.
func isEscape(err error) bool {
	return strings.Contains(err.Error(), "path escapes from parent")
}
