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
	pool *pgxpool.Pool
	q    *dbsqlc.Queries
}

func newStore(pool *pgxpool.Pool) *store {
	return &store{pool: pool, q: dbsqlc.New(pool)}
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
	Asleep  int // workers that take work once they are woken
}

func (s *store) Capacity(ctx context.Context) (capacity, error) {
	row, err := s.q.WorkerCapacity(ctx)
	if err != nil {
		return capacity{}, fmt.Errorf("reading the capacity of the workers: %w", err)
	}
	return capacity{Workers: int(row.Workers), Slots: int(row.Slots), Held: int(row.Held), Asleep: int(row.Asleep)}, nil
}

// figures are what /metrics reads from the database.
type figures struct {
	QueueDepth    int
	QueueOldest   time.Duration // how long the one that waits longest has waited
	Blocked       int           // queued executions that their concurrency group has no room for
	Executions    map[execution.Status]int
	ActiveWorkers int
	Sandboxes     map[string]int // that exist, by state
}

func (s *store) Figures(ctx context.Context) (figures, error) {
	depth, err := s.q.QueueDepth(ctx)
	if err != nil {
		return figures{}, fmt.Errorf("reading the depth of the queue: %w", err)
	}
	blocked, err := s.q.GroupCountBlocked(ctx)
	if err != nil {
		return figures{}, fmt.Errorf("counting blocked executions: %w", err)
	}
	counts, err := s.q.ExecutionCountByStatus(ctx)
	if err != nil {
		return figures{}, fmt.Errorf("counting executions: %w", err)
	}
	sandboxes, err := s.q.SandboxCountByState(ctx)
	if err != nil {
		return figures{}, fmt.Errorf("counting sandboxes: %w", err)
	}
	now, err := s.Capacity(ctx)
	if err != nil {
		return figures{}, err
	}
	f := figures{
		QueueDepth: int(depth.Depth), QueueOldest: time.Duration(depth.OldestSeconds * float64(time.Second)),
		Blocked: int(blocked), Executions: make(map[execution.Status]int), ActiveWorkers: now.Workers, Sandboxes: make(map[string]int),
	}
	for _, row := range sandboxes {
		f.Sandboxes[row.State] = int(row.Sandboxes)
	}
	for _, row := range counts {
		f.Executions[execution.Status(row.Status)] = int(row.Executions)
	}
	return f, nil
}
