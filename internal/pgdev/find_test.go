package pgdev

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"foundry/internal/errs"
	"foundry/internal/sandbox/hostbox"
)

// fakeBinaries makes an initdb and a postgres that only know their version.
func fakeBinaries(t *testing.T, base string, major int) string {
	t.Helper()
	script := fmt.Sprintf("[ \"$1\" = -V ] && echo \"postgres (PostgreSQL) %d.1\" && exit 0\nexit 1", major)
	return fakeScripts(t, filepath.Join(base, fmt.Sprint(major), "bin"), script, "initdb", "postgres")
}

func fakeScripts(t *testing.T, dir, script string, names ...string) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		writeProgram(t, filepath.Join(dir, name), "#!/bin/sh\n"+script+"\n")
	}
	return dir
}

// writeProgram makes a program of everybody's that can be executed at once.
func writeProgram(t *testing.T, name, text string) {
	t.Helper()
	if err := errors.Join(os.WriteFile(name, []byte(text), 0o700), os.Chmod(name, 0o755)); err != nil {
		t.Fatal(err)
	}
	written, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer written.Close()
	hostbox.UntilExecutable(written)
}

func TestFind(t *testing.T) {
	t.Parallel()
	base := openTempDir(t)
	pg14, pg16, pg18 := fakeBinaries(t, base, 14), fakeBinaries(t, base, 16), fakeBinaries(t, base, 18)
	broken := fakeScripts(t, filepath.Join(base, "broken"), "echo 'no such library' >&2; exit 127", "initdb", "postgres")
	lonely := fakeScripts(t, filepath.Join(base, "lonely"), "echo 'postgres (PostgreSQL) 17.1'", "postgres")
	config := fakeScripts(t, filepath.Join(base, "config"), "echo "+pg16, "pg_config")
	empty := filepath.Join(base, "empty")
	pkg, ok := pinnedPackage(runtime.GOOS, runtime.GOARCH)
	if !ok {
		t.Skip("no package for this platform")
	}
	cache := filepath.Join(base, "cache")
	cached := fakeScripts(t, filepath.Join(cache, packageVersion+"-"+pkg.Platform, "native", "bin"),
		"echo 'postgres (PostgreSQL) 17.10'", "initdb", "postgres")
	all := []string{filepath.Join(base, "*", "bin")}

	tests := []struct {
		name string
		f    finder
		want string // a directory, or a part of the error
		code errs.Code
	}{
		{"the configured directory wins", finder{bin: pg16, path: []string{pg18}}, pg16, ""},
		{"a configured directory without binaries is an error", finder{bin: empty, path: []string{pg18}}, "FOUNDRY_PG_BIN is", errs.Invalid},
		{"a configured version that is too old is an error", finder{bin: pg14}, "version 15 or later", errs.Invalid},
		{"PATH comes before known places", finder{path: []string{empty, pg16}, patterns: all}, pg16, ""},
		{"what is too old is passed over", finder{path: []string{pg14, pg16}}, pg16, ""},
		{"what does not run is passed over", finder{path: []string{broken, pg16}}, pg16, ""},
		{"postgres without initdb is passed over", finder{path: []string{lonely, pg16}}, pg16, ""},
		{"pg_config names a directory", finder{path: []string{config}, patterns: all}, pg16, ""},
		{"the newest of the known places", finder{patterns: all}, pg18, ""},
		{"the cache when nothing is installed", finder{path: []string{pg14}, cache: cache}, cached, ""},
		{"the cache when asked to download", finder{bin: BinDownload, path: []string{pg18}, cache: cache}, cached, ""},
		{"nothing at all", finder{cache: empty, npm: filepath.Join(empty, "npm")}, "set DATABASE_URL, or install PostgreSQL", errs.Unavailable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.f.account, tt.f.progress = serverAccount(), func(string) {}
			got, err := tt.f.find(t.Context())
			if tt.code != "" {
				if !errs.Is(err, tt.code) || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil || got.Dir != tt.want {
				t.Errorf("got %v, %v, want %s", got, err, tt.want)
			}
		})
	}
}

// What was killed with the context proves nothing about the binaries.
func TestFindEndsWithItsContext(t *testing.T) {
	t.Parallel()
	enough := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(enough)
	base := openTempDir(t)
	bin := fakeBinaries(t, base, 16)
	for name, f := range map[string]finder{
		"configured": {bin: bin}, "in PATH": {path: []string{bin}}, "to download": {bin: BinDownload, cache: filepath.Join(base, "cache"), npm: "npm"},
	} {
		f.account, f.progress = serverAccount(), func(string) {}
		if found, err := f.find(ctx); !errors.Is(err, enough) {
			t.Errorf("%s: %v, %v", name, found, err)
		}
	}
}

// Another process may be running what it has fetched at the same time.
func TestFetchedPackageStays(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ script, want string }{
		"that runs":         {"echo 'postgres (PostgreSQL) 17.10'", "theirs"},
		"that does not run": {"exit 1", "ours"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			base := openTempDir(t)
			home, ours := filepath.Join(base, "home"), filepath.Join(base, "ours")
			for dir, word := range map[string]string{home: "theirs", ours: "ours"} {
				fakeScripts(t, binOf(dir), c.script, "initdb", "postgres")
				if err := os.WriteFile(filepath.Join(dir, "word"), []byte(word), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			long := time.Now().Add(-time.Hour)
			if err := os.Chtimes(home, long, long); err != nil {
				t.Fatal(err)
			}
			if err := (finder{account: serverAccount()}).keep(t.Context(), ours, home); err != nil {
				t.Fatal(err)
			}
			if word, err := os.ReadFile(filepath.Join(home, "word")); err != nil || string(word) != c.want {
				t.Errorf("there is %s, want %s (%v)", word, c.want, err)
			}
		})
	}
}

func TestParseMajor(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]int{
		"postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)": 15,
		"initdb (PostgreSQL) 17.10":                            17,
		"postgres (PostgreSQL) 19beta1":                        19,
		"mysqld 8.0":                                           0,
		"":                                                     0,
	} {
		if got := parseMajor(answer); got != want {
			t.Errorf("%q: %d, want %d", answer, got, want)
		}
	}
}

func TestFetchRefusesAnotherArchive(t *testing.T) {
	t.Parallel()
	dir := openTempDir(t)
	npm := filepath.Join(fakeScripts(t, filepath.Join(dir, "npm-bin"), `echo tampered > "$4/x.tgz"`, "npm"), "npm")
	f := finder{cache: filepath.Join(dir, "cache"), account: serverAccount(), npm: npm, progress: func(string) {}}
	_, err := f.download(t.Context())
	if !errs.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), "sha512") {
		t.Errorf("got %v", err)
	}
	if left, err := os.ReadDir(f.cache); err != nil || len(left) != 0 {
		t.Errorf("left in the cache: %v, %v", left, err)
	}
}

func TestUnpackStaysInside(t *testing.T) {
	t.Parallel()
	dir := openTempDir(t)
	archive := filepath.Join(dir, "evil.tgz")
	var packed bytes.Buffer
	zipped := gzip.NewWriter(&packed)
	files := tar.NewWriter(zipped)
	if err := files.WriteHeader(&tar.Header{Name: "package/../../escaped", Typeflag: tar.TypeReg, Size: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := files.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := files.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zipped.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(archive, packed.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	inside := filepath.Join(dir, "inside")
	if err := os.Mkdir(inside, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unpack(archive, inside); err == nil {
		t.Error("a file outside was accepted")
	}
	if _, err := os.Stat(filepath.Join(dir, "escaped")); err == nil {
		t.Error("a file outside was written")
	}
}

// requireDownload skips where the download cannot be tried, unless this run must try it.
func requireDownload(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("npm"); err == nil {
		return
	}
	if strings.Contains(os.Getenv("FOUNDRY_REQUIRE"), "pgdownload") {
		t.Fatal("npm is missing, and FOUNDRY_REQUIRE asks for the download")
	}
	t.Skip("npm is missing")
}

func TestDownload(t *testing.T) {
	t.Parallel()
	requireDownload(t)

	t.Run("by this user", func(t *testing.T) {
		t.Parallel()
		dir := clusterDir(t)
		u := use{Dir: dir, Bin: BinDownload, Cache: filepath.Join(openTempDir(t), "cache")}
		testDownloaded(t, startProcess(t, u, 0).line)
		if left, err := filepath.Glob(filepath.Join(u.Cache, "fetch-*")); err != nil || len(left) != 0 {
			t.Errorf("left in the cache: %v, %v", left, err)
		}
	})

	t.Run("by another user", func(t *testing.T) {
		t.Parallel()
		if os.Geteuid() != 0 {
			t.Skip("only root can become another user")
		}
		dir, cache := clusterDir(t), openTempDir(t)
		for _, d := range []string{dir, cache} {
			if err := os.Chown(d, nobody, nobody); err != nil {
				t.Fatal(err)
			}
		}
		testDownloaded(t, startProcess(t, use{Dir: dir, Cache: cache}, nobody).line)
	})
}

func testDownloaded(t *testing.T, line string) {
	t.Helper()
	if want := fmt.Sprintf("ready %d.", packageMajor); !strings.HasPrefix(line, want) {
		t.Errorf("the server says %q, want %q", line, want)
	}
}

// The usual cache makes repeated runs quick: what it holds is found without npm.
func TestDownloadIsCached(t *testing.T) {
	t.Parallel()
	requireDownload(t)
	f := finder{bin: BinDownload, cache: cacheDir(), account: serverAccount(), npm: "npm", progress: func(string) {}}
	first, err := f.find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f.npm = filepath.Join(t.TempDir(), "npm")
	if second, err := f.find(t.Context()); err != nil || second != first {
		t.Errorf("got %v, %v, want %v", second, err, first)
	}
}
