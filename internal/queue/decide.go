package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"foundry/internal/audit"
	"foundry/internal/errs"
	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/postgres/dbsqlc"
)

// Why an approval cannot be decided.
const (
	AlreadyDecided  errs.Code = "already_decided"
	NotWaiting      errs.Code = "not_waiting" // no approval, over, or its time has passed
	CancelRequested errs.Code = "cancel_requested"
)

// MaxComment is the most bytes of a comment on a decision.
const MaxComment = 4 << 10

// Decision is what a person says to an approval.
type Decision struct {
	ExecutionID uuid.UUID
	Node        string
	Index       int
	Approved    bool
	Comment     string // at most MaxComment bytes; stored and shown as it is
	By          audit.Actor
	// Permit is asked whether the actor may decide, with the roles of the prompt, before anything else is said about it.
	// It runs inside the transaction, so it must not wait.
	Permit func(roles []string) error
}

// Decide ends a waiting approval: completed when approved, else failed with code rejected. In the same transaction the execution
// gets its signal, is ready again if it was parked, and the decision goes on record. The first decision counts. errs.NotFound when
// there is no such execution or the node has not begun, errs.Validation for a comment that is too long, AlreadyDecided, errs.Finished,
// CancelRequested, NotWaiting, and what Permit says.
func (s *Store) Decide(ctx context.Context, d Decision) error {
	if len(d.Comment) > MaxComment {
		return errs.E(errs.Validation, "The comment is too long.").With("/comment", "Has at most %d bytes; this one has %d.", MaxComment, len(d.Comment))
	}
	d.Comment = strings.ReplaceAll(strings.ToValidUTF8(d.Comment, "\uFFFD"), "\x00", "\uFFFD")
	err := s.transact(ctx, wake{work: true, ids: []uuid.UUID{d.ExecutionID}}, func(tx dbsqlc.DBTX) error {
		q := dbsqlc.New(tx)
		id, err := d.undecided(ctx, q)
		if err != nil {
			return err
		}
		if err := d.write(ctx, q, id); err != nil {
			return err
		}
		if err := q.QueueUnpark(ctx, d.ExecutionID); err != nil {
			return err
		}
		return audit.Write(ctx, tx, audit.Entry{
			Actor: d.By, Action: audit.ApprovalDecide, ExecutionID: &d.ExecutionID, Target: d.Node,
			Data: map[string]any{"approved": d.Approved, "index": d.Index},
		})
	})
	if err != nil {
		return fmt.Errorf("deciding on an approval: %w", err)
	}
	return nil
}

// undecided locks the execution and returns the node run that waits for this decision, or says why there is none.
func (d *Decision) undecided(ctx context.Context, q *dbsqlc.Queries) (uuid.UUID, error) {
	x, err := q.ExecutionLock(ctx, d.ExecutionID, d.By.OrganizationID)
	if errors.Is(err, pgx.ErrNoRows) {
		return uuid.Nil, errs.E(errs.NotFound, "There is no execution with this id.")
	}
	if err != nil {
		return uuid.Nil, err
	}
	run, err := q.ApprovalGet(ctx, d.ExecutionID, d.Node, int32(d.Index))
	if errors.Is(err, pgx.ErrNoRows) {
		return uuid.Nil, errs.E(errs.NotFound, "The execution has no such run of the node %q.", d.Node)
	}
	if err != nil {
		return uuid.Nil, err
	}
	if run.Prompt == nil {
		return uuid.Nil, errs.E(NotWaiting, "The node %q does not ask for a decision.", d.Node)
	}
	if err := d.permit(run.Prompt); err != nil {
		return uuid.Nil, err
	}
	switch {
	case run.Decision != nil:
		return uuid.Nil, errs.E(AlreadyDecided, "The node %q has been decided already.", d.Node)
	case execution.Status(x.Status).Terminal():
		return uuid.Nil, errs.E(errs.Finished, "The execution has already ended: it is %s.", execution.Status(x.Status).Words())
	case x.CancelRequestedAt != nil:
		return uuid.Nil, errs.E(CancelRequested, "The execution is being canceled.")
	case execution.NodeStatus(run.Status) != execution.NodeWaiting:
		return uuid.Nil, errs.E(NotWaiting, "The node %q does not wait any more: it is %s.", d.Node, execution.Status(run.Status).Words())
	case run.Overdue:
		return uuid.Nil, errs.E(NotWaiting, "The time to decide on the node %q is over.", d.Node)
	}
	return run.ID, nil
}

func (d *Decision) permit(prompt []byte) error {
	var asked execution.Prompt
	if err := json.Unmarshal(prompt, &asked); err != nil {
		return fmt.Errorf("decoding a prompt: %w", err)
	}
	return d.Permit(asked.Roles)
}

// write ends the node run, with its event and the signal, under the execution's lock.
func (d *Decision) write(ctx context.Context, q *dbsqlc.Queries, id uuid.UUID) error {
	said := map[string]any{"approved": d.Approved, "by": d.By.Name, "comment": d.Comment}
	params := dbsqlc.ApprovalDecideParams{
		Day: execution.Day(d.ExecutionID), ExecutionID: d.ExecutionID, ID: id,
		Type: string(event.NodeCompleted), Status: string(execution.NodeCompleted),
	}
	data := map[string]any{"decision": said}
	if d.Approved {
		data["outputs"] = said
	} else {
		params.Type, params.Status = string(event.NodeFailed), string(execution.NodeFailed)
		failure := execution.Failure{Code: "rejected", Message: d.By.Name + " has rejected it."}
		data["error"] = failure
		if err := encode(&params.Error, failure); err != nil {
			return err
		}
	}
	if err := errors.Join(encode(&params.Outputs, said), encode(&params.Event, data)); err != nil {
		return err
	}
	_, err := q.ApprovalDecide(ctx, params)
	return err
}

func encode(to *[]byte, v any) (err error) {
	if *to, err = json.Marshal(v); err != nil {
		return fmt.Errorf("encoding a decision: %w", err)
	}
	return nil
}
