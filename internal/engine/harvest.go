package engine

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"

	"foundry/internal/artifact"
	"foundry/internal/errs"
	"foundry/internal/event"
	"foundry/internal/redact"
	"foundry/internal/shim"
)

// harvest is the collection of the artifacts of one node run. It is used by one goroutine.
type harvest struct {
	c    *collector
	sh   machineShim
	l    *leaving
	list shim.ListResult // the newest

	files   map[string]harvested // stored, by path
	changes int                  // lists whose files had changed when they were read
	changed []string             // of the newest list
	hidden  int                  // files whose names hold a secret
	full    []string             // files for which there was no room
	why     string               // there was none
}

// harvested is an artifact that is stored.
type harvested struct {
	id     uuid.UUID
	size   int64
	sha256 []byte
}

// gather stores all artifacts. It may be called again after an error, and goes on.
func (h *harvest) gather(ctx context.Context) error {
	account, err := h.c.accounts(ctx)
	if err != nil {
		return err
	}
	for {
		if h.list, err = h.sh.ListArtifacts(ctx, h.l.id); err != nil {
			return sandboxError{err}
		}
		h.changed, h.full, h.hidden = nil, nil, 0
		for _, f := range h.list.Files {
			if err := h.take(ctx, account, f); err != nil {
				return err
			}
		}
		if h.changes++; len(h.changed) == 0 || h.changes >= collectTries {
			return nil
		}
	}
}

// take stores one file, unless it is stored.
func (h *harvest) take(ctx context.Context, account *artifact.Account, f shim.ListedFile) error {
	if known, ok := h.files[f.Path]; ok {
		if bytes.Equal(known.sha256, f.SHA256) {
			return nil
		}
		account.Release(1, known.size)
		delete(h.files, f.Path)
	}
	if _, secret := redact.String(h.c.r.redact.Patterns(), f.Path); secret {
		h.hidden++
		return nil
	}
	why, ok := account.Reserve(1, f.Size)
	if !ok {
		h.full, h.why = append(h.full, f.Path), why
		return nil
	}
	id, again, err := h.c.r.e.Uploads.Store(ctx, artifact.Upload{
		ExecutionID: h.c.r.c.ID, Claim: h.c.r.c.Claim, NodeRunID: h.l.id, Path: f.Path, Executable: f.Executable, Size: f.Size, SHA256: f.SHA256,
	}, h.c.source(h.sh, h.l.id, shim.ArtifactsDir, f.Path))
	if again || err != nil {
		account.Release(1, f.Size) // of the account already, or not stored
	}
	switch {
	case err == nil:
		h.files[f.Path] = harvested{id: id, size: f.Size, sha256: f.SHA256}
	case fileChanged(err):
		h.changed = append(h.changed, f.Path)
	default:
		return err
	}
	return nil
}

// source reads a listed file of a node run.
func (c *collector) source(sh machineShim, id uuid.UUID, folder, name string) artifact.Source {
	return func(ctx context.Context, offset, limit int64) ([]byte, error) {
		return sh.ReadLeft(ctx, id, folder, name, offset, limit)
	}
}

// fileChanged reports whether a file is not what was listed: other bytes, gone, or no file any more. (Of a sandbox that is gone, the next list
// says so.)
func fileChanged(err error) bool {
	return errs.Is(err, artifact.Changed) || artifact.OfSource(err) && (errs.Is(err, errs.NotFound) || errs.Is(err, errs.Invalid))
}

// left is what was stored, with its events and the warnings about the rest. whole: all of it was looked at.
func (h *harvest) left(whole bool) left {
	var found left
	for _, path := range slices.Sorted(maps.Keys(h.files)) {
		f := h.files[path]
		found.ids = append(found.ids, f.id)
		found.records = append(found.records, h.c.r.made(event.Artifact, h.l.id, map[string]any{
			"artifact_id": f.id.String(), "path": path, "size": f.size, "sha256": hex.EncodeToString(f.sha256),
		}))
		h.c.r.e.metrics.artifacts.WithLabelValues(string(artifact.Artifact)).Inc()
		h.c.r.e.metrics.artifactBytes.Add(float64(f.size))
	}
	if !whole {
		return found
	}
	for _, message := range h.omissions() {
		found.records = append(found.records, h.c.warning(h.l.id, "artifact_skipped", message))
		h.c.r.e.metrics.artifactsSkipped.Inc()
	}
	return found
}

// omissions says, a sentence for each reason, what was not stored.
func (h *harvest) omissions() []string {
	var messages []string
	for _, l := range h.list.Left {
		messages = append(messages, "Not kept: "+some(l.Examples, l.Count)+". "+omission(l))
	}
	if len(h.full) > 0 {
		messages = append(messages, "Not kept: "+some(h.full, len(h.full))+". "+h.why)
	}
	if len(h.changed) > 0 {
		messages = append(messages, "Not kept: "+some(h.changed, len(h.changed))+". Somebody changed it while it was read.")
	}
	if h.hidden > 0 {
		messages = append(messages, fmt.Sprintf("Not kept: files whose names hold a secret (%d).", h.hidden))
	}
	return messages
}

// omission says why something is not kept, as a sentence with the limit.
func omission(l shim.Left) string {
	switch l.Reason {
	case shim.LeftSize:
		return fmt.Sprintf("A file may have %d bytes (32 MiB); the first has %d.", shim.MaxListedFile, l.Size)
	case shim.LeftTotal:
		return fmt.Sprintf("The files of one command may have %d bytes (128 MiB).", shim.MaxListedBytes)
	case shim.LeftCount:
		return fmt.Sprintf("One command may leave %d files, with paths of 256 KiB together.", shim.MaxListedFiles)
	case shim.LeftKind:
		return "Links and other things that are no regular files are left out."
	case shim.LeftName:
		return "A path must be UTF-8 without control characters, of at most 1024 bytes."
	case shim.LeftUnreadable:
	}
	return "It cannot be read."
}

// some names a few of many.
func some(examples []string, count int) string {
	const most = 3
	if len(examples) > most {
		examples = examples[:most]
	}
	quoted := make([]string, len(examples))
	for i, e := range examples {
		quoted[i] = fmt.Sprintf("%q", e)
	}
	text := strings.Join(quoted, ", ")
	if more := count - len(examples); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
