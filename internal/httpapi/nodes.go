package httpapi

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"

	"foundry/internal/errs"
	"foundry/internal/execution"
	"foundry/internal/httpapi/openapi"
)

func (h *handlers) ListNodes(ctx context.Context, r openapi.ListNodesRequestObject) (openapi.ListNodesResponseObject, error) {
	runs, err := h.nodeRuns(ctx, r.Execution)
	if err != nil {
		return nil, err
	}
	answer := openapi.ListNodes200JSONResponse{Data: make([]openapi.NodeRun, 0, len(runs))}
	for i := range runs {
		run, err := nodeRunJSON(&runs[i])
		if err != nil {
			return nil, err
		}
		answer.Data = append(answer.Data, run)
	}
	return answer, nil
}

// nodeRuns returns all node runs of an execution of the caller's.
func (s *Server) nodeRuns(ctx context.Context, id uuid.UUID) ([]execution.NodeRun, error) {
	if _, err := s.executions.Get(ctx, principal(ctx).OrganizationID, id); err != nil {
		return nil, err
	}
	return s.executions.NodeRuns(ctx, id)
}

// chooseRun finds one run of a node: index 0 unless given, the last attempt unless given.
func chooseRun(runs []execution.NodeRun, node string, index, attempt *int) (*execution.NodeRun, error) {
	var found *execution.NodeRun
	for i := range runs {
		run := &runs[i]
		if run.Key == node && run.Index == valueOr(index, 0) && (attempt == nil || run.Attempt == *attempt) {
			found = run // runs are in the order of attempts
		}
	}
	if found == nil {
		return nil, errs.E(errs.NotFound, "The execution has no such run of the node %q.", node)
	}
	return found, nil
}

func nodeRunJSON(run *execution.NodeRun) (openapi.NodeRun, error) {
	answer := openapi.NodeRun{
		ID: run.ID, Key: run.Key, Index: run.Index, Attempt: run.Attempt, Status: openapi.NodeStatus(run.Status), ExitCode: run.ExitCode,
		Outputs: run.Outputs, Error: failureJSON(run.Failure), Summary: run.Summary, SandboxID: run.SandboxID,
		StdoutBytes: run.StdoutBytes, StderrBytes: run.StderrBytes, DueAt: inUTC(run.DueAt), ReusedFrom: run.ReusedFrom,
		Matrix: run.Combination, ChildExecutionID: run.ChildID, StartedAt: inUTC(run.StartedAt), FinishedAt: inUTC(run.FinishedAt),
	}
	for _, stored := range []struct {
		raw []byte
		to  any
	}{{run.Prompt, &answer.Prompt}, {run.Decision, &answer.Decision}} {
		if stored.raw == nil {
			continue
		}
		if err := json.Unmarshal(stored.raw, stored.to); err != nil {
			return answer, fmt.Errorf("decoding a stored approval: %w", err)
		}
	}
	return answer, nil
}
