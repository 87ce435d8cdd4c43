package httpapi

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"foundry/internal/execution"
	"foundry/internal/postgres/dbsqlc"
)

// store reads what no domain package owns: the machines, and figures for /metrics.
type store struct {
	q *dbsqlc.Queries
}

func newStore(pool *pgxpool.Pool) *store {
	return &store{q: dbsqlc.New(pool)}
}

// worker is a worker process as its row shows it.
type worker struct {
	ID         uuid.UUID
	State      string
	Host       string
	PID        int
	Version    string
	Slots      int
	Held       int // executions
	StartedAt  time.Time
	LeaseUntil time.Time
	GoneAt     *time.Time
}

// Workers returns those that live and those that left in the last minute.
func (s *store) Workers(ctx context.Context) ([]worker, error) {
	rows, err := s.q.WorkerList(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing workers: %w", err)
	}
	list := make([]worker, 0, len(rows))
	for _, row := range rows {
		list = append(list, worker{
			ID: row.ID, State: row.State, Host: row.Host, PID: int(row.Pid), Version: row.Version, Slots: int(row.Slots), Held: int(row.Held),
			StartedAt: row.StartedAt, LeaseUntil: row.LeaseUntil, GoneAt: row.GoneAt,
		})
	}
	return list, nil
}

// capacity is what the workers that take work can do.
type capacity struct {
	Workers int
	Slots   int
	Held    int // executions
}

func (s *store) Capacity(ctx context.Context) (capacity, error) {
	row, err := s.q.WorkerCapacity(ctx)
	if err != nil {
		return capacity{}, fmt.Errorf("reading the capacity of the workers: %w", err)
	}
	return capacity{Workers: int(row.Workers), Slots: int(row.Slots), Held: int(row.Held)}, nil
}

// sandboxRow is a sandbox that exists.
type sandboxRow struct {
	ID           uuid.UUID
	ExecutionID  uuid.UUID
	WorkflowSlug string
	Number       int64 // of the execution
	Provider     string
	Host         string
	State        string
	Isolation    *string
	Reason       *string
	KeepUntil    *time.Time
	CreatedAt    time.Time
	ReadyAt      *time.Time
}

// Sandboxes returns a page of an organization's sandboxes, newest first, before the id given (nil for the first).
func (s *store) Sandboxes(ctx context.Context, organizationID uuid.UUID, before *uuid.UUID, limit int) ([]sandboxRow, error) {
	rows, err := s.q.SandboxList(ctx, organizationID, before, int32(limit))
	if err != nil {
		return nil, fmt.Errorf("listing sandboxes: %w", err)
	}
	list := make([]sandboxRow, 0, len(rows))
	for _, row := range rows {
		list = append(list, sandboxRow{
			ID: row.ID, ExecutionID: row.ExecutionID, WorkflowSlug: row.WorkflowSlug, Number: row.Number, Provider: row.Provider, Host: row.Host,
			State: row.State, Isolation: row.Isolation, Reason: row.Reason, KeepUntil: row.KeepUntil, CreatedAt: row.CreatedAt, ReadyAt: row.ReadyAt,
		})
	}
	return list, nil
}

// figures are what /metrics reads from the database.
type figures struct {
	QueueDepth    int
	QueueOldest   time.Duration // how long the one that waits longest has waited
	Executions    map[execution.Status]int
	ActiveWorkers int
}

func (s *store) Figures(ctx context.Context) (figures, error) {
	depth, err := s.q.QueueDepth(ctx)
	if err != nil {
		return figures{}, fmt.Errorf("reading the depth of the queue: %w", err)
	}
	counts, err := s.q.ExecutionCountByStatus(ctx)
	if err != nil {
		return figures{}, fmt.Errorf("counting executions: %w", err)
	}
	now, err := s.Capacity(ctx)
	if err != nil {
		return figures{}, err
	}
	f := figures{
		QueueDepth: int(depth.Depth), QueueOldest: time.Duration(depth.OldestSeconds * float64(time.Second)),
		Executions: make(map[execution.Status]int), ActiveWorkers: now.Workers,
	}
	for _, row := range counts {
		f.Executions[execution.Status(row.Status)] = int(row.Executions)
	}
	return f, nil
}
