package queue

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"foundry/internal/postgres/dbsqlc"
)

// signalParent tells the parent of an execution that ends in this transaction, under the locks of both; nil is none.
func signalParent(ctx context.Context, q *dbsqlc.Queries, parent *uuid.UUID) error {
	if parent == nil {
		return nil
	}
	return q.ChildSignalParents(ctx, []uuid.UUID{*parent})
}

// withParent are the executions that change when one ends.
func withParent(id uuid.UUID, parent *uuid.UUID) []uuid.UUID {
	if parent == nil {
		return []uuid.UUID{id}
	}
	return []uuid.UUID{id, *parent}
}

// CancelChild sees to it that the cancel of a parent has reached a child: a request, and with forced a second one, unless they were made
// before. Of one that has ended nothing changes; errs.NotFound is not returned either, since there is nothing to end then.
func (s *Store) CancelChild(ctx context.Context, organizationID, id uuid.UUID, forced bool, by string) error {
	_, err := s.cancelUpTo(ctx, organizationID, id, forced, map[string]any{"by": by})
	return err
}

// CancelOrphans cancels executions, at most 100 a call, whose parent has ended without them: it was ended by force. It returns how many. Any
// number of processes may call it at once.
func (s *Store) CancelOrphans(ctx context.Context) (int, error) {
	rows, err := s.q.ChildListOrphaned(ctx)
	if err != nil {
		return 0, fmt.Errorf("looking for executions whose parent has ended: %w", err)
	}
	ids := make([]uuid.UUID, 0, len(rows))
	organizations := make(map[uuid.UUID]uuid.UUID, len(rows))
	for _, row := range rows {
		ids, organizations[row.ID] = append(ids, row.ID), row.OrganizationID
	}
	return each(ctx, ids, func(ctx context.Context, id uuid.UUID) (int, error) {
		return s.cancelOnce(ctx, organizations[id], id, map[string]any{"by": "the end of its parent"})
	})
}
