package shim

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"
)

// Bounds of one list, besides MaxListedFile, MaxListedBytes and MaxListedFiles.
const (
	maxListedPath  = 1024      // bytes of a path
	maxListedPaths = 256 << 10 // bytes of all paths, so that the answer fits
	maxVisited     = 100_000   // entries that are looked at
	maxExamples    = 3         // paths for each reason
)

// lister is one list call. What the command has put there is not trusted: os.Root keeps links from leading out, and what is opened must be
// the file that was seen.
type lister struct {
	root    *os.Root
	result  ListResult
	bytes   int64
	paths   int // bytes
	visited int
}

// listArtifacts lists the files below the artifacts folder, with their hashes.
func listArtifacts(d directory) (ListResult, error) {
	l, err := newLister(d, ArtifactsDir)
	if err != nil || l == nil {
		return ListResult{}, err
	}
	defer l.root.Close()
	err = l.walk(".")
	return l.result, err
}

// anyTime is a bound for listCheckpoint that leaves nothing alone.
const anyTime = math.MaxInt64

// settledBy is the instant, in nanoseconds, before which no entry can get a neighbour of its own instant any more.
func settledBy(now time.Time) int64 { return now.Add(-stampSlack).UnixNano() }

// listCheckpoint lists the newest entry of the checkpoints folder that appeared after the mark, and after the one that was restored, with its
// files; none is no name. What has not appeared before an instant, in nanoseconds, is left alone.
func listCheckpoint(d directory, after mark, before int64) (ListResult, error) {
	l, err := newLister(d, CheckpointDir)
	if err != nil || l == nil {
		return ListResult{}, err
	}
	defer l.root.Close()
	if text, err := os.ReadFile(d.file(restoredFile)); err == nil {
		restored, err := parseMark(string(text))
		if err != nil {
			return ListResult{}, err
		}
		if restored.compare(after) > 0 {
			after = restored
		}
	}
	newest, err := l.newest(after, before)
	if err != nil || newest.name == "" {
		return ListResult{}, err
	}
	l.result.Name, l.result.Appeared = newest.name, newest.at
	err = l.walk(newest.name)
	return l.result, err
}

// newLister returns nil where there is no such folder, or something else in its place. What the command sees is the parent, of which it can
// replace everything: only that is opened by its path.
func newLister(d directory, folder string) (*lister, error) {
	files, err := os.OpenRoot(d.file(filesDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // nothing to list
	}
	if err != nil {
		return nil, err
	}
	defer files.Close()
	name := filepath.Base(folder)
	info, err := files.Lstat(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err != nil || !info.IsDir() {
		return nil, nil //nolint:nilnil // nothing to list
	}
	root, err := files.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	return &lister{root: root}, nil
}

// mark orders the entries of the checkpoints folder.
type mark struct {
	at   int64 // nanoseconds
	name string
}

func (m mark) compare(other mark) int {
	return cmp.Or(cmp.Compare(m.at, other.at), strings.Compare(m.name, other.name))
}

// String is what parseMark reads.
func (m mark) String() string { return strconv.FormatInt(m.at, 10) + ":" + m.name }

// parseMark reads NANOSECONDS:NAME.
func parseMark(text string) (mark, error) {
	digits, name, ok := strings.Cut(text, ":")
	at, err := strconv.ParseInt(digits, 10, 64)
	if !ok || err != nil {
		return mark{}, errors.New("a mark is NANOSECONDS:NAME")
	}
	return mark{at, name}, nil
}

func (l *lister) newest(after mark, before int64) (newest mark, err error) {
	entries, err := fs.ReadDir(l.root.FS(), ".")
	if err != nil {
		return mark{}, err
	}
	for _, e := range entries {
		if hidden(e.Name()) {
			continue
		}
		info, err := e.Info()
		if err != nil {
			continue // it has just gone
		}
		m := mark{changedAt(info), e.Name()}
		if m.compare(after) > 0 && m.compare(newest) > 0 && m.at < before {
			newest = m
		}
	}
	return newest, nil
}

func hidden(name string) bool { return strings.HasPrefix(name, ".") }

// walk lists the files at and below a path. What disappears meanwhile was never there.
func (l *lister) walk(from string) error {
	return fs.WalkDir(l.root.FS(), from, func(name string, e fs.DirEntry, err error) error {
		if l.visited++; l.visited > maxVisited {
			return fs.SkipAll
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		switch {
		case err != nil && !validName(name):
			l.leave(LeftName, name, 0)
		case err != nil:
			l.leave(LeftUnreadable, name, 0)
		case !e.IsDir():
			l.add(name, e)
			return nil
		case validName(name):
			return nil
		default:
			l.leave(LeftName, name, 0)
		}
		return fs.SkipDir
	})
}

// add lists one file, or says why not.
func (l *lister) add(name string, e fs.DirEntry) {
	info, err := e.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	switch {
	case err != nil:
		l.leave(LeftUnreadable, name, 0)
	case !info.Mode().IsRegular():
		l.leave(LeftKind, name, 0)
	case !validName(name):
		l.leave(LeftName, name, info.Size())
	case info.Size() > MaxListedFile:
		l.leave(LeftSize, name, info.Size())
	case len(l.result.Files) >= MaxListedFiles || l.paths+len(name) > maxListedPaths:
		l.leave(LeftCount, name, info.Size())
	case l.bytes+info.Size() > MaxListedBytes:
		l.leave(LeftTotal, name, info.Size())
	default:
		size, sum, err := l.hash(name, info)
		if err != nil {
			l.leave(LeftUnreadable, name, info.Size())
			return
		}
		l.bytes += size
		l.paths += len(name)
		l.result.Files = append(l.result.Files, ListedFile{Path: name, Size: size, SHA256: sum, Executable: info.Mode()&0o111 != 0})
	}
}

// hash reads a file up to MaxListedFile: one that is being written to has another hash when it is read next.
func (l *lister) hash(name string, seen fs.FileInfo) (size int64, sum []byte, err error) {
	f, err := l.root.OpenFile(filepath.FromSlash(name), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return 0, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, nil, err
	}
	if !os.SameFile(seen, info) {
		return 0, nil, fs.ErrInvalid
	}
	h := sha256.New()
	size, err = io.Copy(h, io.LimitReader(f, MaxListedFile))
	return size, h.Sum(nil), err
}

// leave counts what is not listed.
func (l *lister) leave(reason LeftReason, name string, size int64) {
	for i := range l.result.Left {
		left := &l.result.Left[i]
		if left.Reason == reason {
			if left.Count++; len(left.Examples) < maxExamples {
				left.Examples = append(left.Examples, clip(name))
			}
			return
		}
	}
	l.result.Left = append(l.result.Left, Left{Reason: reason, Count: 1, Examples: []string{clip(name)}, Size: size})
}

// clip makes a name fit for an answer.
func clip(name string) string {
	return strings.ToValidUTF8(name[:min(len(name), 200)], "\uFFFD")
}

// validName reports whether a path can be stored and shown: UTF-8 without control characters, and not too long.
func validName(name string) bool {
	return len(name) <= maxListedPath && utf8.ValidString(name) && !strings.ContainsFunc(name, unicode.IsControl)
}

// holds reports whether a folder has an entry, of those that have no dot in front if visible is set.
func holds(dir string, visible bool) bool {
	f, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer f.Close()
	for {
		names, err := f.Readdirnames(100)
		for _, name := range names {
			if !visible || !hidden(name) {
				return true
			}
		}
		if err != nil {
			return false
		}
	}
}
