package execution

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
)

// MaxChildOutputs is how many bytes of outputs a child can hand to its node, as stored.
const MaxChildOutputs = 320 << 10 // more than the engine takes, since stored JSON has spaces

// Child is an execution that a node of another runs.
type Child struct {
	ID           uuid.UUID
	NodeRunID    uuid.UUID // of its parent
	WorkflowSlug string
	Number       int64
	Status       Status
	Outputs      json.RawMessage // a JSON object, or nil: there are none, or Size is above MaxChildOutputs
	Size         int             // of the outputs, in bytes
	Failure      *Failure
}

// Children returns the executions that node runs of an execution have as their own.
func (s *Store) Children(ctx context.Context, parentID uuid.UUID, nodeRuns []uuid.UUID) ([]Child, error) {
	rows, err := s.q.ChildList(ctx, MaxChildOutputs, &parentID, nodeRuns)
	if err != nil {
		return nil, fmt.Errorf("reading children: %w", err)
	}
	list := make([]Child, 0, len(rows))
	for _, row := range rows {
		failure, err := failureFrom(row.Error)
		if err != nil {
			return nil, err
		}
		list = append(list, Child{
			ID: row.ID, NodeRunID: *row.ParentNodeRunID, WorkflowSlug: row.WorkflowSlug, Number: row.Number, Status: Status(row.Status),
			Outputs: row.Outputs, Size: int(row.Size), Failure: failure,
		})
	}
	return list, nil
}
