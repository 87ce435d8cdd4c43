package hostbox

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// RemoveAll removes a folder in which a command may have left folders without write permission,
// as Go's module cache has.
func RemoveAll(dir string) error {
	err := os.RemoveAll(dir)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	walkErr := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if e != nil && e.IsDir() {
			// Called before the folder is read, and again if reading it failed.
			chmodErr := os.Chmod(name, 0o700)
			if err == nil {
				return chmodErr
			}
		}
		return nil
	})
	return errors.Join(walkErr, os.RemoveAll(dir))
}
