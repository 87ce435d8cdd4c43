package audit

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"foundry/internal/postgres/dbsqlc"
)

// Write records an entry in the caller's transaction.
func Write(ctx context.Context, tx dbsqlc.DBTX, e Entry) error {
	data := []byte("{}")
	if len(e.Data) > 0 {
		var err error
		if data, err = json.Marshal(e.Data); err != nil {
			return fmt.Errorf("encoding an audit entry: %w", err)
		}
	}
	err := dbsqlc.New(tx).AuditInsert(ctx, dbsqlc.AuditInsertParams{
		ID: uuid.Must(uuid.NewV7()), OrganizationID: e.Actor.OrganizationID,
		ActorKind: string(e.Actor.Kind), ActorID: e.Actor.ID, Actor: e.Actor.Name,
		Action: string(e.Action), WorkflowID: e.WorkflowID, ExecutionID: e.ExecutionID, Target: e.Target, Data: data,
		Address: e.Actor.Address, RequestID: e.Actor.RequestID,
	})
	if err != nil {
		return fmt.Errorf("writing an audit entry: %w", err)
	}
	return nil
}

// Store reads the record. Safe for concurrent use.
type Store struct {
	q *dbsqlc.Queries
}

// NewStore returns a store on the pool.
func NewStore(pool *pgxpool.Pool) *Store {
	return &Store{q: dbsqlc.New(pool)}
}

// ListParams filters and pages a list, newest first.
type ListParams struct {
	OrganizationID uuid.UUID
	Before         *uuid.UUID // the last id of the page before
	Action         *string
	WorkflowID     *uuid.UUID
	Actor          *string
	Limit          int
}

// List returns a page of the record.
func (s *Store) List(ctx context.Context, p ListParams) ([]Record, error) {
	rows, err := s.q.AuditList(ctx, dbsqlc.AuditListParams{
		OrganizationID: p.OrganizationID, Before: p.Before, Action: p.Action, WorkflowID: p.WorkflowID, Actor: p.Actor, Lim: int32(p.Limit),
	})
	if err != nil {
		return nil, fmt.Errorf("listing the audit record: %w", err)
	}
	list := make([]Record, 0, len(rows))
	for _, row := range rows {
		list = append(list, Record{ID: row.ID, Time: row.Time, Raw: row.Data, Entry: Entry{
			Actor: Actor{
				OrganizationID: p.OrganizationID, Kind: Kind(row.ActorKind), ID: row.ActorID, Name: row.Actor,
				Address: row.Address, RequestID: row.RequestID,
			},
			Action: Action(row.Action), WorkflowID: row.WorkflowID, ExecutionID: row.ExecutionID, Target: row.Target,
		}})
	}
	return list, nil
}
