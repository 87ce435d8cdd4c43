package engine

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"foundry/internal/artifact"
	"foundry/internal/event"
	"foundry/internal/journal"
	"foundry/internal/redact"
	"foundry/internal/shim"
)

// checkpointsChanged looks for a new checkpoint of a command that runs. For the loop.
func (r *run) checkpointsChanged(id uuid.UUID) {
	place, ok := r.placeOf(id)
	sh := r.machine.shim
	if !ok || sh == nil {
		return
	}
	l, ctx := r.files.of(id, place), r.machine.ctx
	if l.looking != nil {
		l.again = true
		return
	}
	looking := make(chan struct{})
	l.looking = looking
	r.work.Go(func() {
		bounded, done := r.files.bounded(ctx)
		r.files.insist(bounded, id, func(ctx context.Context) error { return r.files.checkpoint(ctx, sh, l, true) })
		done()
		close(looking)
		r.tell(ctx, func() {
			l.looking = nil
			if l.again {
				l.again = false
				r.checkpointsChanged(id)
			}
		})
	})
}

// checkpoint stores the newest checkpoint of a node run, if there is one that was not looked at, and makes it complete.
func (c *collector) checkpoint(ctx context.Context, sh machineShim, l *leaving, settled bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := c.load(ctx, l); err != nil {
		return err
	}
	account, err := c.accounts(ctx)
	if err != nil {
		return err
	}
	for try := 1; ; try++ {
		list, err := sh.ListCheckpoint(ctx, l.id, l.mark.Appeared, l.mark.Name, settled)
		if err != nil {
			return sandboxError{err}
		}
		if list.Name == "" {
			return nil
		}
		mark := artifact.Mark{Appeared: list.Appeared, Name: list.Name}
		why := c.unfit(&list)
		if why == "" {
			why, err = c.keep(ctx, sh, l, account, &list)
		}
		switch {
		case fileChanged(err) && try == collectTries:
			why = "Somebody changed it while it was read: a checkpoint is written under a name with a dot, and renamed when it is whole."
		case fileChanged(err):
			continue
		case err != nil:
			return err
		}
		l.mark = mark
		if why != "" {
			c.r.e.metrics.artifactsSkipped.Inc()
			c.submit(&journal.Entry{Records: []journal.Record{
				c.warning(l.id, "checkpoint_skipped", fmt.Sprintf("The checkpoint %q is not kept. %s", list.Name, why)),
			}})
		}
		return nil
	}
}

// load reads what the node has stored before.
func (c *collector) load(ctx context.Context, l *leaving) error {
	if l.loaded {
		return nil
	}
	older, err := c.r.e.Artifacts.Checkpoints(ctx, l.place)
	if err != nil {
		return err
	}
	for _, s := range older {
		l.number = s.Number
		if s.NodeRunID == l.id {
			l.mark = s.Mark
		}
	}
	l.older, l.loaded = older, true
	return nil
}

// unfit says why a checkpoint cannot be kept whole, in a sentence; it is empty for one that can.
func (c *collector) unfit(list *shim.ListResult) string {
	switch {
	case len(list.Left) > 0:
		return some(list.Left[0].Examples, list.Left[0].Count) + ": " + omission(list.Left[0])
	case len(list.Files) == 0:
		return "It has no files."
	}
	for _, f := range list.Files {
		if _, secret := redact.String(c.r.redact.Patterns(), f.Path); secret {
			return "The name of a file holds a secret."
		}
	}
	return ""
}

// keep stores a checkpoint and makes it complete in place of the oldest. why says in a sentence that there is no room.
func (c *collector) keep(ctx context.Context, sh machineShim, l *leaving, account *artifact.Account, list *shim.ListResult) (why string, err error) {
	var size int64
	for _, f := range list.Files {
		size += f.Size
	}
	drop, why, ok := account.Replace(l.older, len(list.Files), size)
	if !ok {
		return why, nil
	}
	stored := artifact.Stored{
		NodeRunID: l.id, Number: l.number + 1, Mark: artifact.Mark{Appeared: list.Appeared, Name: list.Name}, Size: size,
	}
	if stored.IDs, err = c.storeAll(ctx, sh, l.id, stored, list.Files); err != nil {
		account.Release(len(list.Files), size)
		return "", err
	}
	entry := &journal.Entry{Artifacts: stored.IDs, Records: []journal.Record{c.r.made(event.Checkpoint, l.id, map[string]any{
		"name": list.Name, "number": stored.Number, "files": len(list.Files), "size": size,
	})}}
	for _, old := range drop {
		entry.Dropped = append(entry.Dropped, old.IDs...)
	}
	if !c.submit(entry) {
		return "", context.Cause(c.r.ctx)
	}
	for _, old := range drop {
		account.Release(len(old.IDs), old.Size)
	}
	l.older, l.number = append(l.older[len(drop):len(l.older):len(l.older)], stored), stored.Number
	c.r.e.metrics.artifacts.WithLabelValues(string(artifact.Checkpoint)).Inc()
	c.r.e.metrics.artifactBytes.Add(float64(size))
	if err := c.r.e.Uploads.Erase(ctx, c.r.c.ID); err != nil {
		c.r.log.Warn().Err(err).Msg("deleting old checkpoints; retention will")
	}
	return "", nil
}

// storeAll stores the files of a checkpoint. When one has changed, none stays.
func (c *collector) storeAll(ctx context.Context, sh machineShim, id uuid.UUID, s artifact.Stored, files []shim.ListedFile) ([]uuid.UUID, error) {
	var ids []uuid.UUID
	for _, f := range files {
		stored, _, err := c.r.e.Uploads.Store(ctx, artifact.Upload{
			ExecutionID: c.r.c.ID, Claim: c.r.c.Claim, NodeRunID: id, Checkpoint: s.Number, Appeared: s.Mark.Appeared,
			Path: f.Path, Executable: f.Executable, Size: f.Size, SHA256: f.SHA256,
		}, c.source(sh, id, shim.CheckpointDir, f.Path))
		if fileChanged(err) {
			if err := c.r.e.Uploads.Discard(ctx, c.r.c.ID, ids); err != nil {
				c.r.log.Warn().Err(err).Msg("deleting what was stored of a checkpoint; the next claim or retention will")
			}
		}
		if err != nil {
			return nil, err
		}
		ids = append(ids, stored)
	}
	return ids, nil
}

// submit makes an entry of a goroutine durable, also when it is late. false: the run is over.
func (c *collector) submit(entry *journal.Entry) bool {
	entry.ExecutionID, entry.Claim, entry.Session = c.r.c.ID, c.r.c.Claim, c.r.session
	_, err := c.r.e.Journal.Commit(c.r.ctx, entry)
	if err != nil {
		c.r.stop(err)
	}
	return err == nil
}

// origin is where a node's checkpoints are looked for.
type origin struct {
	place artifact.Node
	needs []string
}

// restore puts the newest checkpoint of a node to where the start of its command finds it, and names it in the spec. It returns false when
// the run is over. A checkpoint that cannot be had is done without, with a warning.
func (r *run) restore(ctx context.Context, sh machineShim, id uuid.UUID, from *origin, spec *shim.Spec) bool {
	if from == nil {
		return true
	}
	restored := r.files.insist(ctx, id, func(ctx context.Context) error {
		name, err := r.putCheckpoint(ctx, sh, id, from)
		if err == nil {
			spec.Restore = name
		}
		return err
	})
	if !restored && ctx.Err() == nil {
		r.warnRestore(ctx, id)
	}
	return ctx.Err() == nil
}

// putCheckpoint returns the name of the checkpoint that it has put there; empty when the command begins at the beginning, or has begun.
func (r *run) putCheckpoint(ctx context.Context, sh machineShim, id uuid.UUID, from *origin) (string, error) {
	files, err := r.e.Artifacts.Newest(ctx, from.place, from.needs)
	if err != nil || len(files) == 0 {
		return "", err
	}
	begun, err := sh.Begun(ctx, id)
	if err != nil {
		return "", sandboxError{err}
	}
	if begun {
		return "", nil
	}
	for i := range files {
		f := &files[i]
		mode := uint32(0o644)
		if f.Executable {
			mode = 0o755
		}
		err := sh.PutRestored(ctx, id, f.Path, r.e.Artifacts.Open(ctx, f), mode)
		if artifact.Damaged(err) {
			r.log.Error().Err(err).Str("node_run_id", id.String()).Msg("a checkpoint cannot be restored")
			r.warnRestore(ctx, id)
			return "", nil
		}
		if err != nil {
			return "", sandboxError{err}
		}
	}
	name, _, _ := strings.Cut(files[0].Path, "/")
	return name, nil
}

func (r *run) warnRestore(ctx context.Context, id uuid.UUID) {
	r.tell(ctx, func() {
		r.record(event.Warning, id, map[string]any{
			"code": "checkpoint_not_restored", "message": "The node's checkpoint could not be restored; the command begins without it.",
		})
	})
}

// goesOn says where to look for the checkpoint that a node run begins with; nil when there can be none.
func (r *run) goesOn(in *instance) *origin {
	if in.attempt == 1 && !r.c.Rerun {
		return nil
	}
	return &origin{place: r.place(in), needs: r.def.Nodes[in.node].Needs}
}

// place names an instance to package artifact.
func (r *run) place(in *instance) artifact.Node {
	return artifact.Node{ExecutionID: r.c.ID, Key: r.def.Nodes[in.node].Key, Index: in.index}
}

// placeOf is place for a node run that may have a command; ok is false when it has ended.
func (r *run) placeOf(id uuid.UUID) (place artifact.Node, ok bool) {
	in, ok := r.active[id]
	if !ok {
		return artifact.Node{}, false
	}
	return r.place(in), true
}
