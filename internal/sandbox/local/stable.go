package local

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"

	"foundry/internal/sandbox/hostbox"
)

// What is unused and younger than this may belong to a process that is at work on it.
const leftoverAge = time.Hour

// stableShim copies the program under a name made of its content, since go run removes its own and a
// rebuild replaces it, and returns the command that calls the shim.
func stableShim(folder, executable string, args []string) ([]string, error) {
	if executable == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		executable, args = self, []string{"shim"}
	}
	sum, err := hashFile(executable)
	if err != nil {
		return nil, err
	}
	name := filepath.Join(folder, "shim-"+sum[:32])
	command := append([]string{name}, args...)
	now := time.Now()
	if err := os.Chtimes(name, now, now); !errors.Is(err, fs.ErrNotExist) {
		return command, err
	}
	tmp := filepath.Join(folder, ".shim-"+uuid.NewString())
	if err := copyFile(tmp, executable); err != nil {
		return nil, errors.Join(err, os.Remove(tmp))
	}
	return command, os.Rename(tmp, name)
}

func hashFile(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o700)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err := errors.Join(err, out.Close()); err != nil {
		return err
	}
	program, err := os.Open(to)
	if err != nil {
		return err
	}
	hostbox.UntilExecutable(program)
	return program.Close()
}

// dropUnfinished removes what a process that died in the middle of build or probe has left.
func (p *Provider) dropUnfinished() error {
	leftovers, err := filepath.Glob(p.file("sandboxes", ".*"))
	if err != nil {
		return err
	}
	for _, name := range leftovers {
		info, err := os.Stat(name)
		if err == nil && time.Since(info.ModTime()) > leftoverAge {
			err = hostbox.RemoveAll(name)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// dropOldShims removes copies that no sandbox was built with and that are not young.
func (p *Provider) dropOldShims() error {
	used := map[string]bool{p.shim[0]: true}
	sandboxes, err := os.ReadDir(p.file("sandboxes"))
	if err != nil {
		return err
	}
	for _, e := range sandboxes {
		if r, err := p.read(e.Name()); err == nil {
			used[r.Shim] = true
		}
	}
	copies, err := os.ReadDir(p.file("bin"))
	if err != nil {
		return err
	}
	for _, e := range copies {
		name := p.file("bin", e.Name())
		info, err := e.Info()
		if err == nil && !used[name] && time.Since(info.ModTime()) > leftoverAge {
			err = os.Remove(name)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
