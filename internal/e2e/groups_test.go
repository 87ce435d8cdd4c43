package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"foundry/api/client"
)

// TestConcurrencyGroup runs executions of two workflows that share a group of one: their commands never overlap, and they go in order.
func TestConcurrencyGroup(t *testing.T) {
	t.Parallel()
	i := start(t)
	for _, name := range []string{"left", "right"} {
		i.push("name: "+name+"\ninputs: { customer: {} }\nconcurrency: { group: \"report-${{ inputs.customer }}\" }\nnodes:\n  a: { run: sleep 0.1 }\n", nil)
	}
	var ids []string
	for n := range 8 {
		ids = append(ids, i.queue([]string{"left", "right"}[n%2], map[string]any{"customer": "acme"}))
	}
	apart := i.queue("left", map[string]any{"customer": "umbrella"})
	type span struct{ from, to time.Time }
	var spans []span
	for _, id := range ids {
		i.completes(id)
		run := i.nodes(id)[0]
		spans = append(spans, span{*run.StartedAt, *run.FinishedAt})
	}
	if !slices.IsSortedFunc(spans, func(x, y span) int { return x.from.Compare(y.from) }) {
		t.Errorf("they did not run in the order in which they were queued: %v", spans)
	}
	for n := 1; n < len(spans); n++ {
		if spans[n].from.Before(spans[n-1].to) {
			t.Errorf("command %d began %v before the one before had ended", n, spans[n-1].to.Sub(spans[n].from))
		}
	}
	i.completes(apart)
	i.sound()
}

// hanging begins, says so, and stays.
const hanging = `name: %s
concurrency: { group: deploy, on-conflict: %s }
nodes:
  hold:
    run: |
      echo here
      sleep 600
`

func TestConcurrencyGroupThatReplaces(t *testing.T) {
	t.Parallel()
	i := start(t)
	i.push(fmt.Sprintf(hanging, "deploy", "cancel-running"), nil)
	i.push(fmt.Sprintf(hanging, "careful", "reject"), nil)
	i.push(fmt.Sprintf(hanging, "patient", "queue"), nil)
	first := i.queue("deploy", nil)
	i.says(first, "hold", "here")
	second := i.queue("deploy", nil)
	if x := i.ended(first); x.Status != client.ExecutionStatusCanceled {
		t.Errorf("the first is %s", x.Status)
	}
	i.says(second, "hold", "here")

	refused := i.cli("run", "careful")
	if code := refused.code(); code != 1 || !strings.Contains(refused.err.String(), `The concurrency group "deploy" has room for 1, and is held by deploy #2`) {
		t.Errorf("exit code %d, %s", code, refused.err.String())
	}
	if status := i.call(http.MethodPost, "/workflows/careful/executions", map[string]any{}, nil); status != http.StatusConflict {
		t.Errorf("the API answers %d", status)
	}

	waits := spawn(t, i.dir, i.client(), nil, "run", "patient", "--follow")
	eventually(t, func() error {
		if got := waits.out.String() + waits.err.String(); !strings.Contains(got, `waiting: The concurrency group "deploy" has room for 1`) {
			return fmt.Errorf("it says %q", got)
		}
		return nil
	})
	if out := i.must("executions", "-w", "patient"); !strings.Contains(out, "queued, blocked") {
		t.Errorf("executions says:\n%s", out)
	}
	i.must("cancel", second)
	i.says(queuedID(t, waits.out.String()+waits.err.String()), "hold", "here")
	i.must("cancel", "patient#1")
	if code := waits.wait(); code != 1 {
		t.Errorf("run --follow of what is canceled exits with %d", code)
	}
	i.sound()
}
