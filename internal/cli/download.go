package cli

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"foundry/api/client"
	"foundry/internal/errs"
	"foundry/internal/lifecycle"
)

// A download that breaks off is gone on with this often, after pauses of this length.
const (
	downloadTries = 5
	downloadPause = time.Second
)

// target is a file, and where it goes: a path below the folder, with slashes.
type target struct {
	file client.Artifact
	path string
}

// targetsOf chooses files and the places that they go to. It refuses what would lie outside of the folder.
func targetsOf(files []client.Artifact, choice artifactChoice) ([]target, error) {
	files = newestOf(files)
	var chosen []client.Artifact
	found := map[string]bool{}
	for _, f := range files {
		asked, ok := asksFor(choice.paths, f.Path)
		found[asked] = found[asked] || ok
		if ok {
			chosen = append(chosen, f)
		}
	}
	for _, asked := range choice.paths {
		if !found[asked] {
			return nil, errs.E(errs.NotFound, "The execution has left no %s.", strconv.Quote(asked))
		}
	}
	targets := make([]target, 0, len(chosen))
	for _, f := range chosen {
		to := f.Path
		if collides(chosen, f) {
			to = folderOf(f) + "/" + to
		}
		if f.Path == "" || path.Clean(to) != to || !filepath.IsLocal(filepath.FromSlash(to)) || strings.ContainsAny(to, "\\\x00") {
			return nil, errs.E(errs.Invalid, "The path %s would lead out of the folder.", strconv.Quote(to))
		}
		targets = append(targets, target{f, to})
	}
	return targets, nil
}

// newestOf leaves of each node and index the artifacts of the last attempt that has left some, and the newest checkpoint.
func newestOf(files []client.Artifact) []client.Artifact {
	rank := func(f client.Artifact) int {
		if f.Checkpoint != nil {
			return *f.Checkpoint
		}
		return f.Attempt
	}
	newest := map[string]int{}
	for _, f := range files {
		newest[labelOf(f.Node, f.Index)] = max(newest[labelOf(f.Node, f.Index)], rank(f))
	}
	return slices.DeleteFunc(slices.Clone(files), func(f client.Artifact) bool { return rank(f) != newest[labelOf(f.Node, f.Index)] })
}

// asksFor returns which of the paths asks for a file: its own, or a folder above it. No paths ask for all.
func asksFor(paths []string, file string) (asked string, ok bool) {
	if len(paths) == 0 {
		return "", true
	}
	for _, asked := range paths {
		if folder := strings.TrimSuffix(asked, "/"); file == folder || strings.HasPrefix(file, folder+"/") {
			return asked, true
		}
	}
	return "", false
}

// collides reports whether another node has left a file of this path, or a folder in its place.
func collides(files []client.Artifact, f client.Artifact) bool {
	return slices.ContainsFunc(files, func(other client.Artifact) bool {
		if other.ID == f.ID || other.Node == f.Node && other.Index == f.Index {
			return false
		}
		return other.Path == f.Path || strings.HasPrefix(other.Path, f.Path+"/") || strings.HasPrefix(f.Path, other.Path+"/")
	})
}

func folderOf(f client.Artifact) string {
	if f.Index == 0 {
		return f.Node
	}
	return f.Node + "-" + strconv.Itoa(f.Index)
}

// download writes files of an execution below a folder.
type download struct {
	server    *server
	execution uuid.UUID
	root      *os.Root
}

// fetch has a file be where it is to go, and says how.
func (d *download) fetch(ctx context.Context, t target) (state string, err error) {
	name := filepath.FromSlash(t.path)
	if sum, err := d.hash(name); err == nil && sum == t.file.Sha256 {
		return "present", nil
	}
	if err := d.root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return "", d.unwritable(t, err)
	}
	partial := filepath.Join(filepath.Dir(name), "."+filepath.Base(name)+"."+t.file.Sha256[:min(len(t.file.Sha256), 12)]+".partial")
	for try := 1; ; try++ {
		err := d.read(ctx, t, partial)
		if err == nil {
			break
		}
		if !errs.Is(err, errs.Unavailable) || try == downloadTries || !lifecycle.Sleep(ctx, downloadPause) {
			return "", err
		}
	}
	sum, err := d.hash(partial)
	if err == nil && sum != t.file.Sha256 {
		err = errors.Join(errs.E(errs.Internal, "%s has arrived with other bytes than it was stored with; download it again.", strconv.Quote(t.path)), d.root.Remove(partial))
		return "", err
	}
	if err == nil {
		err = d.root.Rename(partial, name)
	}
	if err != nil {
		return "", d.unwritable(t, err)
	}
	return "downloaded", nil
}

// read appends to the partial file what it lacks.
func (d *download) read(ctx context.Context, t target, partial string) error {
	mode := fs.FileMode(0o644)
	if t.file.Executable {
		mode = 0o755
	}
	f, err := d.root.OpenFile(partial, os.O_WRONLY|os.O_CREATE, mode)
	if err != nil {
		return d.unwritable(t, err)
	}
	defer f.Close()
	have, err := f.Seek(0, io.SeekEnd)
	if err == nil && have > t.file.Size {
		have = 0
	}
	if err != nil || have == t.file.Size && have > 0 {
		return err
	}
	tag := `"` + t.file.Sha256 + `"`
	header := http.Header{}
	if have > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", have))
		header.Set("If-Range", tag)
	}
	resp, err := d.server.send(ctx, request{
		method: http.MethodGet, path: []string{"executions", d.execution.String(), "artifacts", t.file.ID.String(), "content"}, header: header,
	})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusPartialContent {
		have = 0
	}
	if _, err = f.Seek(have, io.SeekStart); err == nil {
		err = f.Truncate(have)
	}
	if err != nil {
		return d.unwritable(t, err)
	}
	return d.copy(ctx, t, f, resp.Body, t.file.Size-have)
}

// copy takes exactly size bytes.
func (d *download) copy(ctx context.Context, t target, f *os.File, body io.Reader, size int64) error {
	tracked := &readTracker{r: body}
	n, err := io.Copy(f, io.LimitReader(tracked, size))
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil && tracked.err == nil:
		return d.unwritable(t, err)
	case err != nil || n < size:
		return errs.E(errs.Unavailable, "The connection broke in the middle of %s.", strconv.Quote(t.path)).Because(err)
	}
	if err := f.Close(); err != nil {
		return d.unwritable(t, err)
	}
	return nil
}

// readTracker remembers whether reading failed.
type readTracker struct {
	r   io.Reader
	err error
}

func (t *readTracker) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		t.err = err
	}
	return n, err
}

// hash is the SHA-256 of a file, in hexadecimal digits.
func (d *download) hash(name string) (string, error) {
	f, err := d.root.Open(name)
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

func (d *download) unwritable(t target, err error) error {
	return usage("%s cannot be written: %s.", t.path, bytes.TrimSuffix([]byte(reason(err)), []byte(".")))
}
