package event

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"foundry/internal/errs"
	"foundry/internal/execution"
	"foundry/internal/postgres/dbsqlc"
)

// PageMax is the most events in one page.
const PageMax = 1000

// Store reads histories and keeps their partitions ahead. Safe for concurrent use.
type Store struct {
	pool *pgxpool.Pool
	q    *dbsqlc.Queries
}

// NewStore returns a store on the pool.
func NewStore(pool *pgxpool.Pool) *Store {
	return &Store{pool: pool, q: dbsqlc.New(pool)}
}

// LogFilter chooses the log chunks of a page. The zero value takes all of them.
type LogFilter struct {
	None     bool        // no logs at all
	NodeRuns []uuid.UUID // only of these node runs, unless empty
}

func (f LogFilter) nodeRuns() []uuid.UUID {
	if f.None {
		return []uuid.UUID{} // not nil: nil means all
	}
	if len(f.NodeRuns) == 0 {
		return nil
	}
	return f.NodeRuns
}

// Page returns at most limit (capped at PageMax) events whose sequence is above after, in order. It is
// one query, whatever the number of node runs.
func (s *Store) Page(ctx context.Context, executionID uuid.UUID, after int64, limit int, filter LogFilter) ([]Event, error) {
	rows, err := s.q.EventPage(ctx, dbsqlc.EventPageParams{
		Day: execution.Day(executionID), ExecutionID: executionID, After: after, Lim: int32(min(limit, PageMax)), NodeRuns: filter.nodeRuns(),
	})
	if err != nil {
		return nil, fmt.Errorf("reading events: %w", err)
	}
	events := make([]Event, 0, len(rows))
	for _, row := range rows {
		e := Event{Seq: row.Seq, Time: row.Time, Type: Type(row.Type), NodeRunID: row.NodeRunID, Data: row.Data}
		if row.NodeKey != nil {
			e.Node, e.Index, e.Attempt = *row.NodeKey, int(*row.Index), int(*row.Attempt)
		}
		if e.Type == Log {
			e.Data, e.Stream, e.Offset, e.Chunk = nil, Stream(row.Stream), row.ByteOffset, row.Chunk
		}
		events = append(events, e)
	}
	return events, nil
}

// LogParams chooses log chunks to read as text.
type LogParams struct {
	ExecutionID uuid.UUID
	NodeRunID   *uuid.UUID // nil: of the whole execution
	Stream      *Stream    // nil: both, in the order of arrival
	After       int64      // sequence
	Limit       int
}

// Logs returns the next chunks in the order of arrival.
func (s *Store) Logs(ctx context.Context, p LogParams) ([]Event, error) {
	rows, err := s.q.LogPage(ctx, dbsqlc.LogPageParams{
		Day: execution.Day(p.ExecutionID), ExecutionID: p.ExecutionID, After: p.After,
		NodeRunID: p.NodeRunID, Stream: (*string)(p.Stream), Lim: int32(min(p.Limit, PageMax)),
	})
	if err != nil {
		return nil, fmt.Errorf("reading logs: %w", err)
	}
	events := make([]Event, 0, len(rows))
	for _, row := range rows {
		events = append(events, Event{Seq: row.Seq, Type: Log, NodeRunID: &row.NodeRunID, Stream: Stream(row.Stream), Offset: row.ByteOffset, Chunk: row.Data})
	}
	return events, nil
}

// LogSeek finds byte number position, counted from 0, of the text that Logs gives for a node run. The chunk that
// holds it is the first after the sequence after, and the text has before bytes in front of that chunk.
// errs.NotFound when the text is shorter.
func (s *Store) LogSeek(ctx context.Context, p LogParams, position int64) (after, before int64, err error) {
	if p.NodeRunID == nil {
		return 0, 0, errs.E(errs.Invalid, "Only the log of a node run can be sought in.")
	}
	row, err := s.q.LogSeek(ctx, dbsqlc.LogSeekParams{
		Day: execution.Day(p.ExecutionID), ExecutionID: p.ExecutionID, NodeRunID: *p.NodeRunID, Stream: (*string)(p.Stream), Position: position,
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, 0, errs.E(errs.NotFound, "The log has no byte %d.", position)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("seeking in a log: %w", err)
	}
	return row.Seq - 1, row.Before, nil
}
