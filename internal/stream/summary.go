package stream

import (
	"fmt"
	"time"

	"github.com/google/uuid"

	"foundry/internal/execution"
)

// Summary is the data of the event execution.summary.
type Summary struct {
	ID      uuid.UUID `json:"id"`
	Version int64     `json:"version"` // rises with every change; a lower one never overwrites a higher

	Execution SummaryExecution `json:"execution"`
}

// SummaryExecution holds the fields of an execution in a list that change while one looks at it, and
// those that a new row needs. They are named as in the list.
type SummaryExecution struct {
	ID         uuid.UUID        `json:"id"`
	Workflow   string           `json:"workflow"`
	Version    int              `json:"version"` // of the workflow
	Number     int64            `json:"number"`
	Status     execution.Status `json:"status"`
	Source     execution.Source `json:"source"`
	QueuedAt   time.Time        `json:"queued_at"`
	StartedAt  *time.Time       `json:"started_at"`
	FinishedAt *time.Time       `json:"finished_at"`
}

func summaryFrame(s *execution.Summary) ([]byte, error) {
	e := &s.Execution
	data, err := encodeJSON(Summary{ID: s.ID, Version: e.LastSeq, Execution: SummaryExecution{
		ID: s.ID, Workflow: e.WorkflowSlug, Version: e.Version, Number: e.Number, Status: e.Status, Source: e.Source,
		QueuedAt: e.QueuedAt, StartedAt: e.StartedAt, FinishedAt: e.FinishedAt,
	}})
	if err != nil {
		return nil, fmt.Errorf("encoding a summary: %w", err)
	}
	return Message("execution.summary", data), nil
}
