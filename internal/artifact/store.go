package artifact

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"foundry/internal/errs"
	"foundry/internal/execution"
	"foundry/internal/postgres/dbsqlc"
)

// Store reads what is complete. Safe for concurrent use. Callers have checked whose the execution is.
type Store struct {
	q *dbsqlc.Queries
}

// NewStore returns a store on the pool.
func NewStore(pool *pgxpool.Pool) *Store {
	return &Store{q: dbsqlc.New(pool)}
}

// ListParams choose files of an execution; the zero value of a field chooses all.
type ListParams struct {
	ExecutionID uuid.UUID
	Node        string
	Kind        Kind
	After       *uuid.UUID // files with higher ids
	Limit       int
}

// List returns files in the order in which their uploads began: those of the execution's node runs, and of those that it has taken over.
func (s *Store) List(ctx context.Context, p ListParams) ([]File, error) {
	params := dbsqlc.ArtifactListParams{ExecutionID: p.ExecutionID, After: p.After, Lim: int32(p.Limit)}
	if p.Node != "" {
		params.Node = &p.Node
	}
	if p.Kind != "" {
		params.Checkpoints = new(p.Kind == Checkpoint)
	}
	return s.list(ctx, params)
}

// Get returns one file of an execution, as List does, or errs.NotFound.
func (s *Store) Get(ctx context.Context, executionID, id uuid.UUID) (*File, error) {
	files, err := s.list(ctx, dbsqlc.ArtifactListParams{ExecutionID: executionID, Only: &id, Lim: 1})
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, errs.E(errs.NotFound, "The execution has no artifact or checkpoint with this id.")
	}
	return &files[0], nil
}

func (s *Store) list(ctx context.Context, p dbsqlc.ArtifactListParams) ([]File, error) {
	rows, err := s.q.ArtifactList(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("listing artifacts: %w", err)
	}
	files := make([]File, 0, len(rows))
	for _, r := range rows {
		files = append(files, File{
			ID: r.ID, ExecutionID: r.ExecutionID, NodeRunID: r.NodeRunID, Node: r.NodeKey, Index: int(r.Index), Attempt: int(r.Attempt),
			Checkpoint: int(r.Checkpoint), Path: r.Path, Executable: r.Executable, Size: r.Size, SHA256: r.Sha256, CreatedAt: r.CreatedAt,
		})
	}
	return files, nil
}

// Chunk returns the bytes of a file from number*ChunkSize, up to ChunkSize of them. errs.Expired when they have gone.
func (s *Store) Chunk(ctx context.Context, f *File, number int) ([]byte, error) {
	data, err := s.q.ArtifactChunk(ctx, day(f.ExecutionID), f.ID, int32(number))
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, errs.E(errs.Expired, "The content of %q is kept no more.", f.Path)
	}
	if err != nil {
		return nil, fmt.Errorf("reading chunk %d of artifact %s: %w", number, f.ID, err)
	}
	if want := min(f.Size-int64(number)*ChunkSize, ChunkSize); int64(len(data)) != want {
		return nil, damaged(f, fmt.Errorf("chunk %d has %d bytes, want %d", number, len(data), want))
	}
	return data, nil
}

// Node names a node and index of an execution.
type Node struct {
	ExecutionID uuid.UUID
	Key         string
	Index       int
}

// Checkpoints returns the checkpoints that a node of an execution has stored there, oldest first.
func (s *Store) Checkpoints(ctx context.Context, n Node) ([]Stored, error) {
	rows, err := s.q.CheckpointList(ctx, n.ExecutionID, n.Key, int32(n.Index))
	if err != nil {
		return nil, fmt.Errorf("listing checkpoints: %w", err)
	}
	var list []Stored
	for _, r := range rows {
		if len(list) == 0 || list[len(list)-1].Number != int(r.Checkpoint) {
			name, _, _ := strings.Cut(r.Path, "/")
			list = append(list, Stored{NodeRunID: r.NodeRunID, Number: int(r.Checkpoint), Mark: Mark{Appeared: r.Appeared, Name: name}})
		}
		last := &list[len(list)-1]
		last.Size += r.Size
		last.IDs = append(last.IDs, r.ID)
	}
	return list, nil
}

// Newest returns the files of the checkpoint that a node goes on from; none when it begins at the beginning. needs are the keys of
// the nodes that it needs itself. In a rerun it may be one of an earlier execution: unless the node completed there, or something that it
// needs has run again.
func (s *Store) Newest(ctx context.Context, n Node, needs []string) ([]File, error) {
	if needs == nil {
		needs = []string{}
	}
	rows, err := s.q.CheckpointNewest(ctx, n.ExecutionID, needs, n.Key, int32(n.Index))
	if err != nil {
		return nil, fmt.Errorf("looking for a checkpoint: %w", err)
	}
	files := make([]File, 0, len(rows))
	for _, r := range rows {
		files = append(files, File{
			ID: r.ID, ExecutionID: r.ExecutionID, NodeRunID: r.NodeRunID, Node: n.Key, Index: n.Index, Checkpoint: int(r.Checkpoint),
			Path: r.Path, Executable: r.Executable, Size: r.Size, SHA256: r.Sha256,
		})
	}
	return files, nil
}

// day is the partition of an execution's chunks.
func day(executionID uuid.UUID) time.Time { return execution.Day(executionID) }
