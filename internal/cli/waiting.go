package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"foundry/api/client"
)

// waitingData is what events say about waiting.
type waitingData struct {
	Kind     string         `json:"kind"`
	Workflow string         `json:"workflow"` // of the execution that a node runs, its slug
	Child    string         `json:"execution_id"`
	Prompt   *client.Prompt `json:"prompt"`
	DueAt    *time.Time     `json:"due_at"`
	Reasons  []struct {
		Node string `json:"node"`
		Kind string `json:"kind"`
	} `json:"reasons"`
	Decision *client.Decision `json:"decision"`
}

// addWaiting shows what a node waits for, and how to go on.
func (v *view) addWaiting(r run, data waitingData) {
	for i := range v.running {
		if v.running[i].run == r {
			v.running[i].waits = true
		}
	}
	v.say(v.fullLabel(r), yellow, data.sentence(v.execution, r))
}

// addParked shows that no worker holds the execution any more. It says the same thing once: many executions that one runs end one by one,
// and it is parked again after each.
func (v *view) addParked(data waitingData) {
	var reasons []string
	for _, reason := range data.Reasons {
		if text := fmt.Sprintf("%s (%s)", reason.Node, reason.Kind); !slices.Contains(reasons, text) {
			reasons = append(reasons, text)
		}
	}
	if text := withDetail("parked, without a worker", strings.Join(reasons, ", ")); text != v.parked {
		v.parked = text
		v.say("execution", dim, text)
	}
}

// sentence says on one line what a node waits for and, if it is a decision, with which command to go on.
func (d waitingData) sentence(execution uuid.UUID, r run) string {
	due := ""
	if d.DueAt != nil {
		due = " until " + d.DueAt.Local().Format(time.DateTime)
	}
	switch {
	case d.Child != "":
		return "runs " + d.Workflow + " " + d.Child
	case d.Prompt == nil:
		return "waits" + due
	}
	from := ""
	if len(d.Prompt.Roles) > 0 {
		from = " by " + strings.Join(d.Prompt.Roles, " or ")
	}
	which := " --node " + r.node
	if r.index != 0 {
		which += " --index " + strconv.Itoa(r.index)
	}
	return withDetail("waits for a decision"+from+due, oneLine(d.Prompt.Message)) +
		fmt.Sprintf(" (foundry approve %s%s, or foundry reject)", execution, which)
}

// explain is what was decided, or "".
func explainDecision(d *client.Decision) string {
	if d == nil {
		return ""
	}
	word := "rejected"
	if d.Approved {
		word = "approved"
	}
	return withDetail(word+" by "+oneLine(d.By), oneLine(d.Comment))
}

// oneLine is text of people on one line that cannot move the cursor or talk to the terminal.
func oneLine(text string) string {
	return string(visible([]byte(strings.Join(strings.Fields(text), " "))))
}

// tellWaiting returns a function that says beside the output, once for each, what an execution waits for at that time. What has been
// decided since the event is passed over.
func (a *app) tellWaiting(ctx context.Context, s *server, id uuid.UUID) func(client.Event) error {
	return func(event client.Event) error {
		var data waitingData
		if err := json.Unmarshal(event.Data, &data); err != nil {
			return fmt.Errorf("reading event %d: %w", event.Seq, err)
		}
		if event.Node == nil || data.Prompt == nil {
			return nil
		}
		r := runOf(event)
		// Only a hint: when it cannot be had, the output is written all the same.
		asking, err := s.asking(ctx, id)
		if err != nil {
			return nil //nolint:nilerr // as the comment says
		}
		for _, n := range asking {
			if n.Key == r.node && n.Index == r.index && n.Attempt == r.attempt {
				fmt.Fprintf(a.Err, "%s %s.\n", r.label(), data.sentence(id, r))
			}
		}
		return nil
	}
}
