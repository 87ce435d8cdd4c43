package local

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/uuid"
)

// etcNames are the parts of /etc that programs need and that say nothing about this machine that its
// user could not know. The rest, such as shadow and keys, does not exist for commands.
func etcNames() []string {
	return []string{
		"ca-certificates.conf", "debian_version", "gai.conf", "group", "host.conf", "inputrc",
		"java-17-openjdk", "java-21-openjdk", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "magic", "mime.types",
		"nsswitch.conf", "os-release", "passwd", "profile", "protocols", "python3", "services",
		"ssl/openssl.cnf", "terminfo", "timezone", "vimrc",
	}
}

// etcLive are those that are bound one by one, because they change while a worker lives or are large. Each
// mount costs every command about half a millisecond, which is why the others are a copy.
func etcLive() (names []string) {
	for _, name := range []string{"alternatives", "hosts", "pki/ca-trust", "pki/tls/certs", "resolv.conf", "ssl/certs"} {
		if _, err := os.Stat(filepath.Join("/etc", name)); err == nil {
			names = append(names, name)
		}
	}
	return names
}

// syncEtc copies what commands see of /etc below the state folder. Files are replaced at once and never
// removed, since commands may be reading them.
func syncEtc(to string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	for _, name := range etcNames() {
		if err := syncTree(filepath.Join(to, name), filepath.Join("/etc", name)); err != nil {
			return err
		}
	}
	for _, name := range etcLive() {
		if err := mountPoint(filepath.Join(to, name), filepath.Join("/etc", name)); err != nil {
			return err
		}
	}
	return nil
}

// mountPoint makes something of the right kind to bind over.
func mountPoint(name, from string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return os.MkdirAll(name, 0o755)
	}
	return replace(name, nil)
}

func syncTree(to, from string) error {
	return filepath.WalkDir(from, func(name string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			return nil // this machine has none, or keeps it to itself
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, name)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		switch {
		case e.IsDir():
			return os.MkdirAll(target, 0o755)
		case e.Type()&fs.ModeSymlink != 0:
			return syncLink(target, name)
		case e.Type().IsRegular():
			content, err := os.ReadFile(name)
			if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			return replace(target, content)
		}
		return nil
	})
}

func syncLink(to, from string) error {
	target, err := os.Readlink(from)
	if err != nil {
		return err
	}
	if now, err := os.Readlink(to); err == nil && now == target {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	tmp := to + "." + uuid.NewString()
	if err := os.Symlink(target, tmp); err != nil {
		return err
	}
	return os.Rename(tmp, to)
}

// replace writes a file unless it has the content already.
func replace(name string, content []byte) error {
	if now, err := os.ReadFile(name); err == nil && bytes.Equal(now, content) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	tmp := name + "." + uuid.NewString()
	if err := os.WriteFile(tmp, content, 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, name)
}
