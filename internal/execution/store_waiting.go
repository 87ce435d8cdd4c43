package execution

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// WaitKind says what a node waits for.
type WaitKind string

// The kinds of waiting.
const (
	WaitApproval WaitKind = "approval" // a person's decision
	WaitTime     WaitKind = "wait"     // a time that the text names
	WaitRetry    WaitKind = "retry"    // the pause before it runs again
	WaitChild    WaitKind = "workflow" // the end of the execution that it runs
)

// WaitingNode is a node that its execution waits for.
type WaitingNode struct {
	Key     string
	Index   int
	Kind    WaitKind
	Message string     // of an approval; may be empty
	Roles   []string   // of an approval: which may decide besides owners; empty is everybody who may run the workflow
	ChildID *uuid.UUID // of WaitChild
	Child   string     // of WaitChild: how people call it, as report #7
	DueAt   *time.Time // when it goes on by itself; nil is never
}

// Prompt is what an approval asks, as it is stored.
type Prompt struct {
	Message string   `json:"message"`
	Roles   []string `json:"roles"`
}

// WaitingNodes returns what an execution that is not running waits for, by key and index.
func (s *Store) WaitingNodes(ctx context.Context, id uuid.UUID) ([]WaitingNode, error) {
	rows, err := s.q.NodeRunListWaiting(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("reading what execution %s waits for: %w", id, err)
	}
	list := make([]WaitingNode, 0, len(rows))
	for _, row := range rows {
		n := WaitingNode{Key: row.NodeKey, Index: int(row.Index), Kind: WaitTime, DueAt: row.DueAt}
		switch {
		case row.Retry:
			n.Kind = WaitRetry
		case row.ChildID != nil:
			n.Kind, n.ChildID = WaitChild, row.ChildID
			if row.ChildWorkflow != nil && row.ChildNumber != nil {
				n.Child = fmt.Sprintf("%s #%d", *row.ChildWorkflow, *row.ChildNumber)
			}
		case row.Prompt != nil:
			var p Prompt
			if err := json.Unmarshal(row.Prompt, &p); err != nil {
				return nil, fmt.Errorf("decoding a prompt: %w", err)
			}
			n.Kind, n.Message, n.Roles = WaitApproval, p.Message, p.Roles
		}
		list = append(list, n)
	}
	return list, nil
}
