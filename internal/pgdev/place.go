package pgdev

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"foundry/internal/errs"
)

const (
	superuser = "foundry"
	// port only names the socket file; nothing listens on TCP.
	port = "5432"
	// maxSocketPath is the smallest sun_path among the systems we run on (macOS: 104 with NUL).
	maxSocketPath = 103
)

// place is the directory of one cluster. Its names are the same for every process that
// computes it from the same configuration: that is how they find each other.
type place struct {
	Dir    string // holds everything below, but for Socket where Dir is long
	Socket string // directory of the Unix socket
}

func (p place) users() string    { return filepath.Join(p.Dir, "users") }
func (p place) server() string   { return filepath.Join(p.Dir, "server") }
func (p place) log() string      { return filepath.Join(p.Dir, "log") }
func (p place) failed() string   { return filepath.Join(p.Dir, "failed") }
func (p place) cluster() string  { return filepath.Join(p.Dir, "cluster") }
func (p place) data() string     { return filepath.Join(p.cluster(), "data") }
func (p place) password() string { return filepath.Join(p.cluster(), "password") }
func (p place) pidFile() string  { return filepath.Join(p.data(), "postmaster.pid") }

// url returns the connection string for a database of the cluster. The password is read
// at every call: it does not exist before initdb has run.
func (p place) url(database string) (string, error) {
	password, err := os.ReadFile(p.password())
	if err != nil {
		return "", fmt.Errorf("reading the cluster's password: %w", err)
	}
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(superuser, strings.TrimSpace(string(password))),
		Path:     "/" + database,
		RawQuery: url.Values{"host": {p.Socket}, "port": {port}}.Encode(),
	}
	return u.String(), nil
}

// findPlace computes the place for a major version and makes its directories.
func findPlace(c Config, major int) (place, error) {
	base, err := baseDir(c)
	if err != nil {
		return place{}, err
	}
	p := place{Dir: filepath.Join(base, "pg"+strconv.Itoa(major))}
	p.Socket = filepath.Join(p.Dir, "s")
	if len(filepath.Join(p.Socket, ".s.PGSQL."+port)) > maxSocketPath {
		p.Socket = filepath.Join("/tmp", fmt.Sprintf("foundry-%d-%s", os.Geteuid(), shortHash(p.Dir)))
	}
	if err := ownDir(base); err != nil {
		return place{}, err
	}
	return p, ownDir(p.Dir)
}

// baseDir returns where clusters of this configuration live. Root's own directories are
// closed to the account that PostgreSQL runs as, so root has a base elsewhere.
func baseDir(c Config) (string, error) {
	if c.Dir == "" {
		return filepath.Join("/tmp", fmt.Sprintf("foundry-%d-%s", os.Geteuid(), c.Kind)), nil
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return "", fmt.Errorf("finding the cluster's directory: %w", err)
	}
	if os.Geteuid() != 0 || c.reachable {
		return dir, nil
	}
	hash := shortHash(dir)
	if base := "/var/lib/foundry-dev"; ownDir(base) == nil {
		return filepath.Join(base, hash), nil
	}
	return "/tmp/foundry-0-" + hash, nil
}

// ownDir makes a directory, or checks one that exists: /tmp is open to everybody, and a
// directory or link that somebody else has put there is not to be trusted.
func ownDir(dir string) error {
	mode := os.FileMode(0o700)
	if os.Geteuid() == 0 {
		mode = 0o711
	}
	if err := os.MkdirAll(dir, mode); err != nil {
		return fmt.Errorf("making the cluster's directory: %w", err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("checking the cluster's directory: %w", err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() || int(stat.Uid) != os.Geteuid() || info.Mode().Perm()&0o022 != 0 {
		return errs.E(errs.Conflict, "The directory %s belongs to somebody else or is open to others; remove it.", dir)
	}
	return nil
}

func shortHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:6])
}
