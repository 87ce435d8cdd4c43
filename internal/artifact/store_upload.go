package artifact

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/semaphore"

	"foundry/internal/errs"
	"foundry/internal/execution"
	"foundry/internal/failpoint"
	"foundry/internal/postgres/dbsqlc"
)

// inHand is how many chunks an uploader holds in memory at a time, whatever the number of files.
const inHand = 2

// Uploader stores the files of executions that this process holds. Safe for concurrent use; for one process.
type Uploader struct {
	pool  *pgxpool.Pool
	q     *dbsqlc.Queries
	slots *semaphore.Weighted
}

// NewUploader returns an uploader on the pool.
func NewUploader(pool *pgxpool.Pool) *Uploader {
	return &Uploader{pool: pool, q: dbsqlc.New(pool), slots: semaphore.NewWeighted(inHand)}
}

// errStale is what callers get whose claim is gone.
var errStale error = errs.E(errs.StaleClaim, "Another worker has the right to this execution.")

// Source reads up to limit bytes of a file from offset; fewer only at its end.
type Source func(ctx context.Context, offset, limit int64) ([]byte, error)

// sourceError is an error of a Source.
type sourceError struct{ error }

func (e sourceError) Unwrap() error { return e.error }

// OfSource reports whether an error of Store came from its Source.
func OfSource(err error) bool {
	_, ok := errors.AsType[sourceError](err)
	return ok
}

// Begin deletes what earlier claims have left unfinished, and returns what the execution has stored. Once for each time that an execution is
// loaded, before its first Store.
func (u *Uploader) Begin(ctx context.Context, executionID uuid.UUID, claim int64) (*Account, error) {
	var usage dbsqlc.ArtifactUsageRow
	err := u.transact(ctx, func(q *dbsqlc.Queries) error {
		if err := hold(ctx, q, executionID, claim); err != nil {
			return err
		}
		left, err := q.ArtifactDeleteLeft(ctx, executionID)
		if err != nil {
			return err
		}
		if err := q.ArtifactDeleteChunks(ctx, day(executionID), left); err != nil {
			return err
		}
		usage, err = q.ArtifactUsage(ctx, executionID)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("beginning to store artifacts: %w", err)
	}
	return &Account{files: int(usage.Files), bytes: usage.Bytes}, nil
}

// Store stores a file and returns its id. again: it was stored before, under an earlier claim, and was of the account when that was
// begun. Changed when the content is not what was listed, errs.StaleClaim, or an error of the source (OfSource).
func (u *Uploader) Store(ctx context.Context, f Upload, read Source) (id uuid.UUID, again bool, err error) {
	if f.Size <= ChunkSize {
		return u.storeSmall(ctx, f, read)
	}
	id, again, err = u.insert(ctx, f, nil)
	if err != nil || again {
		return id, again, err
	}
	sum := sha256.New()
	for number := 0; int64(number)*ChunkSize < f.Size; number++ {
		if err := u.chunk(ctx, id, f, number, read, sum.Write); err != nil {
			return uuid.Nil, false, err
		}
	}
	if !bytes.Equal(sum.Sum(nil), f.SHA256) {
		return uuid.Nil, false, changed(f)
	}
	rows, err := failpoint.Call(ctx, "artifact.store", func() (int64, error) { return u.q.ArtifactStore(ctx, id, f.Claim) })
	return id, false, guarded(rows, err)
}

// chunk reads one chunk and stores it.
func (u *Uploader) chunk(ctx context.Context, id uuid.UUID, f Upload, number int, read Source, sum func([]byte) (int, error)) error {
	if err := u.slots.Acquire(ctx, 1); err != nil {
		return context.Cause(ctx)
	}
	defer u.slots.Release(1)
	data, err := exactly(ctx, f, int64(number)*ChunkSize, read)
	if err != nil {
		return err
	}
	_, _ = sum(data) // a hash takes everything
	params := dbsqlc.ArtifactChunkPutParams{Day: day(f.ExecutionID), ArtifactID: id, Number: int32(number), Data: data, Claim: f.Claim}
	return guarded(failpoint.Call(ctx, "artifact.chunk", func() (int64, error) { return u.q.ArtifactChunkPut(ctx, params) }))
}

// storeSmall stores a file of at most one chunk with one commit.
func (u *Uploader) storeSmall(ctx context.Context, f Upload, read Source) (id uuid.UUID, again bool, err error) {
	if err := u.slots.Acquire(ctx, 1); err != nil {
		return uuid.Nil, false, context.Cause(ctx)
	}
	defer u.slots.Release(1)
	data := []byte{}
	if f.Size > 0 {
		if data, err = exactly(ctx, f, 0, read); err != nil {
			return uuid.Nil, false, err
		}
	}
	if sum := sha256.Sum256(data); !bytes.Equal(sum[:], f.SHA256) {
		return uuid.Nil, false, changed(f)
	}
	return u.insert(ctx, f, data)
}

// exactly reads the chunk at offset.
func exactly(ctx context.Context, f Upload, offset int64, read Source) ([]byte, error) {
	want := min(f.Size-offset, ChunkSize)
	data, err := read(ctx, offset, want)
	if err != nil {
		return nil, sourceError{err}
	}
	if int64(len(data)) != want {
		return nil, changed(f)
	}
	return data, nil
}

func changed(f Upload) error {
	return errs.E(Changed, "The file %q changed while it was read.", f.Path)
}

// insert makes the row of a file: with its content, where that is one chunk, and as stored then; else (nil) as uploading. again: it was stored
// before. What an earlier upload of the same path has left is deleted.
func (u *Uploader) insert(ctx context.Context, f Upload, content []byte) (id uuid.UUID, again bool, err error) {
	id = execution.NewID()
	err = u.transact(ctx, func(q *dbsqlc.Queries) error {
		if err := hold(ctx, q, f.ExecutionID, f.Claim); err != nil {
			return err
		}
		known, err := q.ArtifactFind(ctx, f.ExecutionID, f.NodeRunID, int32(f.Checkpoint), f.Path)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
		case err != nil:
			return err
		case known.State == "complete" || known.State == "stored" && f.same(known.Size, known.Sha256):
			id, again = known.ID, true
			return nil
		default:
			if err := q.ArtifactDelete(ctx, known.ID); err != nil {
				return err
			}
			if err := q.ArtifactDeleteChunks(ctx, day(f.ExecutionID), []uuid.UUID{known.ID}); err != nil {
				return err
			}
		}
		return write(ctx, q, id, f, content)
	})
	if err != nil {
		return uuid.Nil, false, fmt.Errorf("storing %q: %w", f.Path, err)
	}
	return id, again, nil
}

func write(ctx context.Context, q *dbsqlc.Queries, id uuid.UUID, f Upload, content []byte) error {
	state := "uploading"
	if content != nil {
		state = "stored"
	}
	err := q.ArtifactInsert(ctx, dbsqlc.ArtifactInsertParams{
		ID: id, ExecutionID: f.ExecutionID, NodeRunID: f.NodeRunID, Checkpoint: int32(f.Checkpoint), Path: f.Path, Executable: f.Executable,
		Size: f.Size, Sha256: f.SHA256, State: state, Appeared: f.Appeared,
	})
	if err != nil || len(content) == 0 {
		return err
	}
	return q.ArtifactChunkInsert(ctx, day(f.ExecutionID), id, content)
}

// Erase deletes the chunks of what was dropped. It needs no claim: nobody reads them.
func (u *Uploader) Erase(ctx context.Context, executionID uuid.UUID) error {
	err := u.transact(ctx, func(q *dbsqlc.Queries) error {
		dropped, err := q.ArtifactDeleteDropped(ctx, executionID)
		if err != nil {
			return err
		}
		return q.ArtifactDeleteChunks(ctx, day(executionID), dropped)
	})
	if err != nil {
		return fmt.Errorf("deleting dropped checkpoints: %w", err)
	}
	return nil
}

// Discard deletes files that are not complete, which their caller will not complete.
func (u *Uploader) Discard(ctx context.Context, executionID uuid.UUID, ids []uuid.UUID) error {
	err := u.transact(ctx, func(q *dbsqlc.Queries) error {
		gone, err := q.ArtifactDiscard(ctx, ids)
		if err != nil {
			return err
		}
		return q.ArtifactDeleteChunks(ctx, day(executionID), gone)
	})
	if err != nil {
		return fmt.Errorf("deleting what was stored of a checkpoint: %w", err)
	}
	return nil
}

// hold is the first statement of a transaction that only the holder of the claim may commit.
func hold(ctx context.Context, q *dbsqlc.Queries, executionID uuid.UUID, claim int64) error {
	held, err := q.ArtifactHold(ctx, executionID, claim)
	if err == nil && len(held) == 0 {
		err = errStale
	}
	return err
}

// guarded is the error of a statement that changes one row, or none under a stale claim.
func guarded(rows int64, err error) error {
	if err == nil && rows == 0 {
		err = errStale
	}
	if err != nil {
		return fmt.Errorf("storing an artifact: %w", err)
	}
	return nil
}

func (u *Uploader) transact(ctx context.Context, f func(*dbsqlc.Queries) error) error {
	tx, err := u.pool.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	if err := f(dbsqlc.New(tx)); err != nil {
		return err
	}
	return failpoint.Around(ctx, "artifact.commit", func() error { return tx.Commit(ctx) })
}

// Refused reports whether the database refuses a file for what it is: a repeat would be refused too.
func Refused(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (pg.Code[:2] == "22" || pg.Code[:2] == "23" || pg.Code[:2] == "54")
}
