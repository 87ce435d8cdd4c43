package httpapi

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"foundry/internal/auth"
	"foundry/internal/errs"
	"foundry/internal/execution"
	"foundry/internal/httpapi/openapi"
	"foundry/internal/queue"
)

func (h *handlers) ApproveNode(ctx context.Context, r openapi.ApproveNodeRequestObject) (openapi.ApproveNodeResponseObject, error) {
	run, err := h.decide(ctx, r.Execution, r.Node, r.Params.Index, r.Body, true)
	if err != nil {
		return nil, err
	}
	return openapi.ApproveNode200JSONResponse(run), nil
}

func (h *handlers) RejectNode(ctx context.Context, r openapi.RejectNodeRequestObject) (openapi.RejectNodeResponseObject, error) {
	run, err := h.decide(ctx, r.Execution, r.Node, r.Params.Index, r.Body, false)
	if err != nil {
		return nil, err
	}
	return openapi.RejectNode200JSONResponse(run), nil
}

// decide answers what a node asks and returns its run as it is then.
func (h *handlers) decide(ctx context.Context, id uuid.UUID, node string, index *int, body *openapi.Decide, approved bool) (openapi.NodeRun, error) {
	x, err := h.executions.Get(ctx, principal(ctx).OrganizationID, id)
	if err != nil {
		return openapi.NodeRun{}, err
	}
	d := queue.Decision{
		ExecutionID: id, Node: node, Index: valueOr(index, 0), Approved: approved, By: actorOf(ctx),
		Permit: func(roles []string) error { return auth.RequireRole(principal(ctx), roles) },
	}
	if body != nil {
		d.Comment = body.Comment
	}
	err = h.queue.Decide(ctx, d)
	if errs.Is(err, errs.NotFound) {
		return openapi.NodeRun{}, h.notBegun(ctx, x, node, err)
	}
	if err != nil {
		return openapi.NodeRun{}, err
	}
	runs, err := h.executions.NodeRuns(ctx, id)
	if err != nil {
		return openapi.NodeRun{}, err
	}
	run, err := chooseRun(runs, node, index, nil)
	if err != nil {
		return openapi.NodeRun{}, err
	}
	return nodeRunJSON(run)
}

// notBegun tells a node that is to run yet, or was never to run, from one that the workflow does not have.
func (h *handlers) notBegun(ctx context.Context, x *execution.Execution, node string, notFound error) error {
	def, err := h.definitions.Get(ctx, x.WorkflowID, x.Version)
	if err != nil {
		return err
	}
	if _, ok := def.Node(node); !ok {
		return notFound
	}
	if x.Status.Terminal() {
		return errs.E(errs.Finished, "The execution has already ended: it is %s.", x.Status.Words())
	}
	return errs.E(queue.NotWaiting, "The node %q does not wait yet.", node)
}

// parkedJSON says what a parked execution waits for; there is at least one node.
func parkedJSON(nodes []execution.WaitingNode, now capacity) *openapi.WaitingFor {
	w := &openapi.WaitingFor{Workers: now.Workers}
	var first *execution.WaitingNode
	for i := range nodes {
		n := &nodes[i]
		if first == nil || waitRank(n.Kind) < waitRank(first.Kind) {
			first = n
		}
		roles := n.Roles
		if roles == nil {
			roles = []string{}
		}
		w.Nodes = append(w.Nodes, openapi.WaitingNode{
			Kind: openapi.WaitingNodeKind(n.Kind), Node: n.Key, Index: n.Index, Message: n.Message, Roles: roles, DueAt: inUTC(n.DueAt), ExecutionID: n.ChildID,
		})
	}
	because(w, openapi.WaitingForReason(first.Kind), waitSentence(first))
	for _, n := range w.Nodes {
		if kind := string(n.Kind); !slices.Contains(w.Reasons, kind) {
			w.Reasons = append(w.Reasons, kind)
		}
	}
	if more := len(nodes) - 1; more > 0 {
		w.Message += fmt.Sprintf(" And for %d more.", more)
	}
	return w
}

// waitRank orders the kinds by how much there is to do about them.
func waitRank(kind execution.WaitKind) int {
	switch kind {
	case execution.WaitApproval:
		return 0
	case execution.WaitChild:
		return 1
	case execution.WaitTime:
		return 2
	case execution.WaitRetry:
	}
	return 3
}

func waitSentence(n *execution.WaitingNode) string {
	node, until := n.Key, ""
	if n.Index > 0 {
		node = indexed(n.Key, n.Index)
	}
	if n.DueAt != nil {
		until = " until " + n.DueAt.UTC().Format(time.RFC3339)
	}
	switch n.Kind {
	case execution.WaitApproval:
		return fmt.Sprintf("Somebody has to decide on the node %q%s.", node, until)
	case execution.WaitChild:
		return fmt.Sprintf("The node %q waits for the end of %s.", node, n.Child)
	case execution.WaitRetry:
		return fmt.Sprintf("The node %q pauses%s before it runs again.", node, until)
	case execution.WaitTime:
	}
	return fmt.Sprintf("The node %q waits%s.", node, until)
}
