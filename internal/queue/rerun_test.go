package queue_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"foundry/internal/errs"
	"foundry/internal/execution"
	"foundry/internal/idempotency"
	"foundry/internal/pgtest"
	"foundry/internal/queue"
	"foundry/internal/workflow"
)

// rerunText is the first version that tests of reruns run.
const rerunText = `name: rerun
inputs: { who: { type: string, default: you } }
nodes:
  fetch: { run: "true" }
  ask: { needs: [fetch], approval: { message: "Go on?" } }
  extra: { needs: [fetch], if: "${{ inputs.who == 'me' }}", run: "true" }
  crunch: { needs: [fetch, extra], if: "${{ !failure() }}", run: "true" }
  lint: { run: "true", continue-on-error: true }
  report: { needs: [lint], run: "true" }
  publish: { needs: [ask, crunch], if: "${{ !failure() }}", run: "true" }
`

// rerunBundle is a database whose workflow has rerunText as version 2.
type rerunBundle struct {
	*testBundle
	texts *workflow.Definitions
}

func setupRerun(t *testing.T) *rerunBundle {
	t.Helper()
	b := &rerunBundle{testBundle: setup(t)}
	b.texts = workflow.NewDefinitions(workflow.NewStore(b.pool))
	b.version(rerunText)
	return b
}

// version adds a version to the workflow.
func (b *rerunBundle) version(text string) {
	b.t.Helper()
	if _, diagnostics := workflow.Compile([]byte(text)); diagnostics.Failed() {
		b.t.Fatal(diagnostics)
	}
	pgtest.Exec(b.t, b.pool, `WITH w AS (UPDATE workflows SET latest_version = latest_version + 1 WHERE id = $1 RETURNING latest_version)
		INSERT INTO workflow_versions (workflow_id, version, source) SELECT $1, latest_version, $2 FROM w`, b.workflow, text)
}

// past makes an execution of version 2 that has ended. Its nodes are given as "key=status", in the order in which they ended: the same
// key again is a further attempt.
func (b *rerunBundle) past(status execution.Status, nodes string) uuid.UUID {
	b.t.Helper()
	id := b.enqueue(func(r *queue.Request) { r.Version, r.Inputs, r.Priority = 2, json.RawMessage(`{"who": "you"}`), 4 })
	attempts := map[string]int{}
	for _, node := range strings.Fields(nodes) {
		key, status, _ := strings.Cut(node, "=")
		attempts[key]++
		pgtest.Exec(b.t, b.pool, `INSERT INTO node_runs (id, execution_id, node_key, attempt, status, exit_code, outputs, summary, decision, stdout_bytes, started_at, finished_at)
			VALUES ($1, $2, $3, $4, $5, 0, jsonb_build_object('from', $3::text), 'sum', '{"approved": true}', 7, now() - interval '1 hour', now())`,
			execution.NewID(), id, key, attempts[key], status)
	}
	b.end(id, status)
	return id
}

// end ends an execution in the queue.
func (b *rerunBundle) end(id uuid.UUID, status execution.Status) {
	b.t.Helper()
	pgtest.Exec(b.t, b.pool, `WITH gone AS (DELETE FROM execution_queue WHERE execution_id = $1), ended AS (
			UPDATE executions SET status = $2, finished_at = now(), last_seq = last_seq + 1 WHERE id = $1 RETURNING id, last_seq)
		INSERT INTO execution_events (day, execution_id, seq, type) SELECT execution_day(id), id, last_seq, 'execution.' || $2 FROM ended`, id, string(status))
}

// sandbox gives an execution a sandbox, which has the files of its version.
func (b *rerunBundle) sandbox(execution uuid.UUID, state string) uuid.UUID {
	b.t.Helper()
	return pgtest.Get[uuid.UUID](b.t, b.pool, `INSERT INTO sandboxes (id, execution_id, provider, host, provider_id, state, claim, keep_until, ended_at, files_version)
		SELECT gen_random_uuid(), id, 'local', 'host', 'p', $2, 3, now() + interval '1 hour', CASE WHEN $2 IN ('destroyed', 'failed') THEN now() END, workflow_version
		FROM executions WHERE id = $1 RETURNING id`,
		execution, state)
}

func (b *rerunBundle) ask(of uuid.UUID, change ...func(*queue.RerunRequest)) queue.RerunRequest {
	r := queue.RerunRequest{OrganizationID: b.org, Of: of, From: queue.FromFailed, Source: execution.FromUI, Actor: "Ann"}
	for _, f := range change {
		f(&r)
	}
	return r
}

func from(key string) func(*queue.RerunRequest) {
	return func(r *queue.RerunRequest) { r.From = key }
}

func in(choice queue.SandboxChoice) func(*queue.RerunRequest) {
	return func(r *queue.RerunRequest) { r.Sandbox = choice }
}

func latest(r *queue.RerunRequest) { r.Latest = true }

func (b *rerunBundle) rerun(r queue.RerunRequest) queue.Rerunning {
	b.t.Helper()
	x, err := b.queue.Rerun(b.t.Context(), b.texts, r)
	if err != nil {
		b.t.Fatal(err)
	}
	return x
}

const allCompleted = "fetch=completed ask=completed extra=skipped crunch=completed lint=completed report=completed publish=completed"

func TestRerunReuses(t *testing.T) {
	t.Parallel()
	b := setupRerun(t)
	defer b.check()
	tests := map[string]struct {
		status execution.Status
		nodes  string
		from   string
		want   string // what is reused, in text order
	}{
		"all but what failed": {
			execution.Failed, "fetch=completed ask=completed extra=skipped crunch=completed lint=completed report=completed publish=failed",
			"failed", "fetch ask crunch lint report",
		},
		"what failed and completed at last counts as completed": {
			execution.Failed, "fetch=failed fetch=completed ask=completed extra=skipped crunch=interrupted crunch=completed publish=failed",
			"failed", "fetch ask crunch",
		},
		"nothing below what failed": {
			execution.Failed, "fetch=failed ask=skipped extra=skipped crunch=skipped lint=completed report=completed publish=skipped",
			"failed", "lint report",
		},
		"nothing that ended otherwise": {
			execution.Canceled, "fetch=completed ask=canceled extra=skipped crunch=timed_out lint=interrupted", "failed", "fetch",
		},
		"what was never begun runs": {execution.TimedOut, "", "failed", ""},
		"a tolerated failure is a failure, and takes along what came after": {
			execution.Completed, "fetch=completed ask=completed extra=skipped crunch=completed lint=failed report=completed publish=completed",
			"failed", "fetch ask crunch publish",
		},
		"a skipped node takes nothing along":            {execution.Completed, allCompleted, "publish", "fetch ask crunch lint report"},
		"from a node: neither it nor what needs it":     {execution.Completed, allCompleted, "ask", "fetch crunch lint report"},
		"from the first node: what does not need it":    {execution.Completed, allCompleted, "fetch", "lint report"},
		"from a skipped node: what came after runs too": {execution.Completed, allCompleted, "extra", "fetch ask lint report"},
		"from a node, and what failed elsewhere": {
			execution.Failed, "fetch=completed ask=completed extra=skipped crunch=failed lint=completed report=completed publish=skipped",
			"report", "fetch ask lint",
		},
		"an execution that failed by its outputs runs nothing": {execution.Failed, allCompleted, "failed", "fetch ask crunch lint report publish"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := b.ask(b.past(tt.status, tt.nodes), from(tt.from))
			preview, err := b.queue.PlanRerun(t.Context(), b.texts, r)
			if err != nil {
				t.Fatal(err)
			}
			x := b.rerun(r)
			if got := strings.Join(preview.ReusedKeys(), " "); got != tt.want {
				t.Errorf("the preview reuses %q, want %q", got, tt.want)
			}
			if got := strings.Join(x.Plan.ReusedKeys(), " "); got != tt.want {
				t.Errorf("the rerun reuses %q, want %q", got, tt.want)
			}
			stored := pgtest.Get[[]string](t, b.pool, "SELECT array_agg(node_key) FROM node_runs WHERE execution_id = $1", x.ID)
			want := strings.Fields(tt.want)
			slices.Sort(stored)
			slices.Sort(want)
			if !slices.Equal(stored, want) {
				t.Errorf("it has runs of %q, want %q", stored, want)
			}
		})
	}
}

func TestRerunIsAnExecution(t *testing.T) {
	t.Parallel()
	b := setupRerun(t)
	defer b.check()
	of := b.past(execution.Failed, "fetch=failed fetch=completed ask=completed extra=skipped crunch=failed")
	first := b.rerun(b.ask(of))
	x := b.get(first.ID)
	if x.Number != 2 || x.Status != execution.Queued || x.Source != execution.FromUI || x.Actor != "Ann" || x.Version != 2 || x.Priority != 4 || string(x.Inputs) != `{"who": "you"}` {
		t.Errorf("execution %+v with %s", x, x.Inputs)
	}
	if x.RerunOf == nil || *x.RerunOf != of {
		t.Errorf("it is a rerun of %v, want %s", x.RerunOf, of)
	}
	var event struct {
		RerunOf uuid.UUID `json:"rerun_of"`
		From    string
		Reused  []string
		Number  int
	}
	raw := pgtest.Get[[]byte](t, b.pool, "SELECT data FROM execution_events WHERE execution_id = $1 AND seq = 1 AND type = 'execution.queued'", x.ID)
	if err := json.Unmarshal(raw, &event); err != nil || event.RerunOf != of || event.From != "failed" || event.Number != 2 || !slices.Equal(event.Reused, []string{"fetch", "ask"}) {
		t.Errorf("event %s, %v", raw, err)
	}
	old, now := b.runs(of), b.runs(x.ID)
	if len(now) != 2 {
		t.Fatalf("%d runs are reused", len(now))
	}
	for key, run := range now {
		before := old[key]
		want := before
		want.ID, want.ReusedFrom, want.StdoutBytes = run.ID, &before.ID, 0
		if run.ID == before.ID {
			t.Errorf("%s has the id of the earlier run", key)
		}
		if diff := cmp.Diff(want, run); diff != "" {
			t.Errorf("%s (- before, + now): %s", key, diff)
		}
	}
	if now["fetch"].Attempt != 2 {
		t.Errorf("attempt %d", now["fetch"].Attempt)
	}
	// A rerun of the rerun names the run that really ran.
	b.end(x.ID, execution.Failed)
	again := b.runs(b.rerun(b.ask(x.ID)).ID)
	if got := again["fetch"].ReusedFrom; got == nil || *got != old["fetch"].ID {
		t.Errorf("reused from %v, want %s", got, old["fetch"].ID)
	}
	claimed := b.claim(b.join(), 5)
	if len(claimed) != 1 || !claimed[0].Rerun {
		t.Errorf("claimed as %+v", claimed)
	}
}

// runs are the last runs of an execution's nodes.
func (b *rerunBundle) runs(id uuid.UUID) map[string]execution.NodeRun {
	b.t.Helper()
	list, err := b.executions.NodeRuns(b.t.Context(), id)
	if err != nil {
		b.t.Fatal(err)
	}
	runs := map[string]execution.NodeRun{}
	for _, run := range list {
		runs[run.Key] = run
	}
	return runs
}

func TestRerunRefuses(t *testing.T) {
	t.Parallel()
	b := setupRerun(t)
	defer b.check()
	failed := b.past(execution.Failed, "fetch=completed lint=completed report=completed ask=failed")
	done := b.past(execution.Completed, allCompleted)
	queued := b.enqueue()
	running := b.enqueue(priority(10))
	b.claim(b.join(), 1)
	kept := b.past(execution.Failed, "fetch=failed")
	b.sandbox(kept, "destroyed")
	tests := map[string]struct {
		request queue.RerunRequest
		code    errs.Code
		says    string
	}{
		"none":                    {b.ask(uuid.New()), errs.NotFound, "There is no execution with this id."},
		"of another organization": {b.ask(failed, func(r *queue.RerunRequest) { r.OrganizationID = uuid.New() }), errs.NotFound, "There is no execution with this id."},
		"queued":                  {b.ask(queued), queue.NotFinished, "Only an execution that has ended can be rerun; this one is queued."},
		"running":                 {b.ask(running), queue.NotFinished, "Only an execution that has ended can be rerun; this one is running."},
		"a node that is not":      {b.ask(failed, from("nope")), errs.Validation, `Version 2 has no node "nope".`},
		"nothing failed":          {b.ask(done), errs.Validation, "There is nothing to run again; name the node to run from."},
		"no sandbox":              {b.ask(failed, in(queue.SandboxReuse)), queue.SandboxNotAvailable, "The execution had no sandbox."},
		"a sandbox that is gone":  {b.ask(kept, in(queue.SandboxReuse)), queue.SandboxNotAvailable, "The sandbox was not kept, or has been destroyed."},
	}
	before := b.totals()
	for name, tt := range tests {
		_, planned := b.queue.PlanRerun(t.Context(), b.texts, tt.request)
		_, admitted := b.queue.Rerun(t.Context(), b.texts, tt.request)
		for _, err := range []error{planned, admitted} {
			e, ok := errors.AsType[*errs.Error](err)
			if !ok || e.Code != tt.code || e.Message != tt.says {
				t.Errorf("%s: %v, want %s: %s", name, err, tt.code, tt.says)
			}
		}
	}
	if after := b.totals(); after != before {
		t.Errorf("rows %s, before %s", after, before)
	}
}

func (b *rerunBundle) totals() string {
	b.t.Helper()
	return pgtest.Get[string](b.t, b.pool, "SELECT format('%s executions, %s node runs, %s places', (SELECT count(*) FROM executions), (SELECT count(*) FROM node_runs), (SELECT count(*) FROM execution_queue))")
}

func TestRerunWithTheLatestVersion(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		old, now string // what is replaced in rerunText
		from     string
		reused   string
		refused  []string
	}{
		"what failed has changed":                    {`publish: { needs: [ask, crunch], if: "${{ !failure() }}", run: "true" }`, "publish: { needs: [ask], set: { a: b } }", "failed", "fetch ask crunch lint report", nil},
		"a reused command has changed":               {`fetch: { run: "true" }`, `fetch: { run: "false" }`, "failed", "fetch ask crunch lint report", nil},
		"needs in another order":                     {"needs: [fetch, extra]", "needs: [extra, fetch]", "failed", "fetch ask crunch lint report", nil},
		"a reused node is gone":                      {`report: { needs: [lint], run: "true" }`, `other: { run: "true" }`, "failed", "", []string{`The node "report", which would be reused, is not in version 3.`}},
		"a reused node is of another kind":           {`report: { needs: [lint], run: "true" }`, "report: { needs: [lint], set: { a: b } }", "failed", "", []string{`The node "report", which would be reused, is of another kind in version 3: set, not run.`}},
		"reused nodes need others":                   {`crunch: { needs: [fetch, extra]`, "crunch: { needs: [extra]", "failed", "", []string{`The node "crunch", which would be reused, needs other nodes in version 3.`}},
		"a new node runs":                            {"publish: {", "check: { needs: [crunch], run: \"true\" }\n  publish: {", "failed", "fetch ask crunch lint report", nil},
		"from a new node":                            {"publish: {", "check: { needs: [crunch], run: \"true\" }\n  publish: {", "check", "fetch ask crunch lint report", nil},
		"what runs may go":                           {`publish: {`, `announce: {`, "failed", "fetch ask crunch lint report", nil},
		"a skipped node that needs what runs":        {"extra: { needs: [fetch]", "first: { run: \"true\" }\n  extra: { needs: [fetch, first]", "failed", "fetch ask lint report", nil},
		"an input that the new version has not":      {"inputs: { who: { type: string, default: you } }", "inputs: { whom: { type: string } }\nenv: { A: b }", "failed", "", nil},
		"from a node that the new version has not":   {`publish: {`, `announce: {`, "publish", "", []string{`Version 3 has no node "publish".`}},
		"an input with a default is added":           {"inputs: {", "inputs: { depth: { type: integer, default: 3 },", "failed", "fetch ask crunch lint report", nil},
		"an input that must be given has been added": {"inputs: {", "inputs: { depth: { type: integer, required: true },", "failed", "", []string{`The input "depth" is missing.`}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setupRerun(t)
			defer b.check()
			of := b.past(execution.Failed, "fetch=completed ask=completed extra=skipped crunch=completed lint=completed report=completed publish=failed")
			text := strings.ReplaceAll(rerunText, tt.old, tt.now)
			if strings.Contains(tt.now, "whom") {
				text = strings.ReplaceAll(text, "inputs.who ", "inputs.whom ")
				tt.refused = []string{`The workflow has no input "who". Did you mean "whom"?`}
			}
			b.version(text)
			r := b.ask(of, latest, from(tt.from))
			x, err := b.queue.Rerun(t.Context(), b.texts, r)
			if len(tt.refused) > 0 {
				wantCode(t, err, errs.Validation)
				e, _ := errors.AsType[*errs.Error](err)
				var got []string
				for _, d := range e.Details {
					got = append(got, d.Detail)
				}
				if !slices.Equal(got, tt.refused) {
					t.Errorf("refused with %q, want %q", got, tt.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(x.Plan.ReusedKeys(), " "); got != tt.reused || b.get(x.ID).Version != 3 {
				t.Errorf("version %d, reused %q, want %q", b.get(x.ID).Version, got, tt.reused)
			}
			if strings.Contains(tt.now, "depth") && string(b.get(x.ID).Inputs) != `{"who": "you", "depth": 3}` {
				t.Errorf("inputs %s", b.get(x.ID).Inputs)
			}
		})
	}
}

func TestRerunHappensOnce(t *testing.T) {
	t.Parallel()
	b := setupRerun(t)
	defer b.check()
	of := b.past(execution.Failed, "fetch=completed")
	b.sandbox(of, "kept")
	hash, err := idempotency.HashOf("body")
	if err != nil {
		t.Fatal(err)
	}
	r := b.ask(of, in(queue.SandboxReuse))
	r.Once = &idempotency.Guard[queue.Rerunning]{
		Request: idempotency.Request{OrganizationID: b.org, PrincipalID: uuid.New(), Route: "rerun", Key: "k", Hash: hash},
		Answer: func(x queue.Rerunning) (idempotency.Answer, error) {
			return idempotency.Answer{Status: 202, Body: []byte(x.ID.String())}, nil
		},
	}
	first := b.rerun(r)
	r.Sandbox = queue.SandboxAny // the sandbox is taken, by the first
	_, err = b.queue.Rerun(t.Context(), b.texts, r)
	again, ok := errors.AsType[*idempotency.ReplayError](err)
	if !ok || string(again.Answer.Body) != first.ID.String() {
		t.Errorf("the second answer is %v", err)
	}
	if n := pgtest.Get[int](t, b.pool, "SELECT count(*) FROM executions WHERE rerun_of = $1", of); n != 1 {
		t.Errorf("%d reruns", n)
	}
}
