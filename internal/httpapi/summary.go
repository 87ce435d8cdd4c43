package httpapi

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"foundry/internal/execution"
	"foundry/internal/httpapi/openapi"
)

// summaryMax is how many bytes of summaries are answered.
const summaryMax = 1 << 20

func (h *handlers) GetExecutionSummary(ctx context.Context, r openapi.GetExecutionSummaryRequestObject) (openapi.GetExecutionSummaryResponseObject, error) {
	runs, err := h.nodeRuns(ctx, r.Execution)
	if err != nil {
		return nil, err
	}
	return summaryText(joinSummaries(runs)), nil
}

type summaryText string

// VisitGetExecutionSummaryResponse writes the text, which is not to be taken for anything else.
func (t summaryText) VisitGetExecutionSummaryResponse(w http.ResponseWriter) error {
	header := w.Header()
	header.Set("Content-Type", "text/markdown; charset=utf-8")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	header.Set("Content-Length", strconv.Itoa(len(t)))
	if _, err := strings.NewReader(string(t)).WriteTo(w); err != nil {
		return errors.Join(errClientGone, err)
	}
	return nil
}

// joinSummaries is the Markdown of GET …/summary.
func joinSummaries(runs []execution.NodeRun) string {
	type place struct {
		key   string
		index int
	}
	last := map[place]*execution.NodeRun{}
	for i := range runs { // in the order of attempts
		last[place{runs[i].Key, runs[i].Index}] = &runs[i]
	}
	var summed []*execution.NodeRun
	several := map[string]bool{}
	for p, run := range last {
		if run.Summary != "" {
			summed = append(summed, run)
		}
		several[p.key] = several[p.key] || p.index > 0
	}
	slices.SortFunc(summed, func(a, b *execution.NodeRun) int {
		if a.StartedAt != nil && b.StartedAt != nil && !a.StartedAt.Equal(*b.StartedAt) {
			return a.StartedAt.Compare(*b.StartedAt)
		}
		return strings.Compare(a.ID.String(), b.ID.String())
	})
	var text strings.Builder
	for _, run := range summed {
		heading := run.Key
		if several[run.Key] {
			heading += " " + strconv.Itoa(run.Index)
		}
		section := "## " + heading + "\n\n" + strings.TrimRight(run.Summary, "\n") + "\n"
		if text.Len() > 0 {
			section = "\n" + section
		}
		if text.Len()+len(section) > summaryMax {
			text.WriteString("\n*The rest is left out: summaries are answered up to 1 MiB.*\n")
			break
		}
		text.WriteString(section)
	}
	return text.String()
}
