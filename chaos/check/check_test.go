package check_test

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"foundry/chaos/check"
	"foundry/chaos/plan"
	"foundry/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// plant is one damage to a sound history.
type plant struct {
	rule string // that must tell; empty: nothing is to be found
	sql  string // $1 is the execution
	see  func(h *history, e *check.Evidence)
}

func plants() map[string]plant {
	all := plantsInNodes()
	maps.Copy(all, plantsInFans())
	maps.Copy(all, plantsInChildren())
	maps.Copy(all, plantsInFiles())
	maps.Copy(all, plantsInData())
	maps.Copy(all, plantsOfNothing())
	return all
}

func plantsInNodes() map[string]plant {
	return map[string]plant{
		"an accepted execution is gone":         {rule: "lost", sql: "DELETE FROM executions WHERE id = $1"},
		"an execution of another workflow":      {rule: "lost", see: func(_ *history, e *check.Evidence) { e.Accepted[0].Workflow = "chaos-2" }},
		"one execution for two requests":        {rule: "lost", see: func(_ *history, e *check.Evidence) { e.Accepted = append(e.Accepted, e.Accepted[0]) }},
		"an execution that nobody asked for":    {rule: "lost", see: func(_ *history, e *check.Evidence) { e.Accepted = nil }},
		"an execution has not ended":            {rule: "rest", sql: "UPDATE executions SET status = 'running', finished_at = NULL WHERE id = $1"},
		"a node run has not ended":              {rule: "rest", sql: "UPDATE node_runs SET status = 'running', finished_at = NULL WHERE execution_id = $1 AND node_key = 'steady'"},
		"an ended execution is in the queue":    {rule: "rest", sql: "INSERT INTO execution_queue (execution_id, run_order) VALUES ($1, now())"},
		"an ended execution has a timer":        {rule: "rest", sql: "INSERT INTO execution_timers (execution_id, due_at, reason) VALUES ($1, now(), 'wait')"},
		"a command began twice":                 {rule: "repeated", see: func(h *history, e *check.Evidence) { h.note(e, "flaky", 1, "begin") }},
		"a completed node's command never ran":  {rule: "repeated", see: func(h *history, e *check.Evidence) { h.forget(e, "steady") }},
		"a completed command's end is missing":  {rule: "repeated", see: func(h *history, e *check.Evidence) { e.Notes[h.id] = e.Notes[h.id][:len(e.Notes[h.id])-1] }},
		"a completed node's command ran again":  {rule: "repeated", see: func(h *history, e *check.Evidence) { h.note(e, "steady", 2, "begin") }},
		"a command that no node run stands for": {rule: "repeated", see: func(h *history, e *check.Evidence) { h.note(e, "nobody", 1, "begin") }},
		"a command after the execution's end": {rule: "late", see: func(h *history, e *check.Evidence) {
			e.Notes[h.id][0].At = time.Now().Add(time.Hour)
		}},
		"a command after its node run's end": {rule: "late", sql: "UPDATE node_runs SET finished_at = finished_at - interval '1 hour' WHERE execution_id = $1 AND node_key = 'flaky' AND attempt = 1"},
		"a gap between attempts":             {rule: "attempts", sql: "UPDATE node_runs SET attempt = 3 WHERE execution_id = $1 AND node_key = 'flaky' AND attempt = 2"},
		"an attempt after the completed one": {rule: "attempts", sql: "UPDATE node_runs SET status = 'completed' WHERE execution_id = $1 AND node_key = 'flaky' AND attempt = 1"},
		"more failures than retries":         {rule: "attempts", sql: "UPDATE node_runs SET status = 'failed' WHERE execution_id = $1 AND node_key = 'broken' AND attempt = 1"},
		"a node that the text has not":       {rule: "attempts", sql: "UPDATE node_runs SET node_key = 'stranger' WHERE execution_id = $1 AND node_key = 'wait'"},
		"a node given up too early":          {rule: "attempts", sql: `UPDATE node_runs SET error = '{"code":"infrastructure"}' WHERE execution_id = $1 AND node_key = 'broken' AND attempt = 2`},
		"a node is missing":                  {rule: "ends", sql: "DELETE FROM node_runs WHERE execution_id = $1 AND node_key = 'wait'"},
		"a node that should fail completed":  {rule: "ends", sql: "UPDATE node_runs SET status = 'completed' WHERE execution_id = $1 AND node_key = 'broken' AND attempt = 2"},
		"a node that should complete failed": {rule: "ends", sql: `UPDATE node_runs SET status = 'failed', error = '{"code":"internal"}' WHERE execution_id = $1 AND node_key = 'wait'`},
		"a node was skipped without a cause": {rule: "ends", sql: "UPDATE node_runs SET status = 'skipped' WHERE execution_id = $1 AND node_key = 'set'"},
		"a node ran that should be skipped":  {rule: "ends", sql: "UPDATE node_runs SET status = 'completed' WHERE execution_id = $1 AND node_key = 'below'"},
		"another exit code":                  {rule: "ends", sql: "UPDATE node_runs SET exit_code = 6 WHERE execution_id = $1 AND node_key = 'broken' AND attempt = 2"},
		"a node was canceled by nobody":      {rule: "ends", sql: "UPDATE node_runs SET status = 'canceled' WHERE execution_id = $1 AND node_key = 'wait'"},
		"a failed execution completed":       {rule: "verdict", sql: "UPDATE executions SET status = 'completed' WHERE id = $1"},
		"a node's output":                    {rule: "values", sql: `UPDATE node_runs SET outputs = '{"value":"stolen"}' WHERE execution_id = $1 AND node_key = 'steady'`},
		"the output of a set node":           {rule: "values", sql: `UPDATE node_runs SET outputs = '{"value":"steady-4-2"}' WHERE execution_id = $1 AND node_key = 'set'`},
	}
}

func plantsInFans() map[string]plant {
	const of = " WHERE execution_id = $1 AND node_key = "
	return map[string]plant{
		"a combination is missing":            {rule: "ends", sql: "DELETE FROM node_runs" + of + "'patient' AND index = 1"},
		"a combination that there is not":     {rule: "ends", sql: "UPDATE node_runs SET index = 4" + of + "'matrix' AND index = 3"},
		"another combination failed":          {rule: "ends", sql: "UPDATE node_runs SET status = 'failed', exit_code = 6" + of + "'matrix' AND index = 0"},
		"a combination was ended for nothing": {rule: "ends", sql: "UPDATE node_runs SET status = 'canceled'" + of + "'patient' AND index = 0"},
		"an iteration is missing":             {rule: "ends", sql: "DELETE FROM node_runs" + of + "'repeat' AND index = 1"},
		"an iteration behind a failed one":    {rule: "ends", sql: `UPDATE node_runs SET status = 'failed', error = '{"code":"infrastructure"}'` + of + "'repeat' AND index = 0"},
		"a combination began after the failure": {rule: "hasty", sql: `UPDATE node_runs SET status = 'completed', started_at = finished_at + interval '1 second', finished_at = finished_at + interval '1 minute',
outputs = '{"value":"matrix-1-0-r1c0"}'` + of + "'matrix' AND index = 2"},
		"combinations at one time":    {rule: "parallel", see: func(h *history, e *check.Evidence) { h.extend(e, "matrix", 0) }},
		"iterations at one time":      {rule: "parallel", see: func(h *history, e *check.Evidence) { h.extend(e, "repeat", 0) }},
		"the answer of a combination": {rule: "values", sql: `UPDATE node_runs SET outputs = '{"value":"repeat-1-0-1-14;r0c1"}'` + of + "'patient' AND index = 0"},
		"the answer of an iteration":  {rule: "values", sql: `UPDATE node_runs SET outputs = '{"value":"repeat-1-0-1-0"}'` + of + "'repeat' AND index = 1"},
		"a combination's command ran again": {rule: "repeated", see: func(h *history, e *check.Evidence) {
			e.Notes[h.id] = append(e.Notes[h.id], check.Note{Node: "matrix", Attempt: 2, Word: "begin", At: time.Now()})
		}},
		"output of another combination": {rule: "output", sql: "UPDATE execution_logs SET data = 'matrix.1 1 ' WHERE execution_id = $1 AND node_run_id = (SELECT id FROM node_runs" + of + "'matrix' AND index = 0)"},
		"too many commands": {rule: "parallel", see: func(h *history, e *check.Evidence) {
			for i := range 9 {
				for _, word := range []string{"begin", "end"} {
					e.Notes[h.id] = append(e.Notes[h.id], check.Note{Node: "crowd", Index: i, Attempt: 1, Word: word, At: time.Now()})
				}
				h.extend(e, "crowd", i)
			}
		}},
	}
}

func plantsInChildren() map[string]plant {
	const (
		child    = "UPDATE executions SET "
		of       = " WHERE parent_execution_id = $1"
		canceled = child + "status = 'canceled', cancel_requested_at = now()" + of
		call     = "UPDATE node_runs SET %s WHERE execution_id = $1 AND node_key = 'call'"
	)
	return map[string]plant{
		"a child of nobody": {rule: "lost", sql: child + "parent_execution_id = NULL, parent_node_run_id = NULL" + of},
		"a child that was promised": {rule: "lost", see: func(h *history, e *check.Evidence) {
			e.Accepted = append(e.Accepted, check.Accepted{ID: h.child, Workflow: "chaos-2"})
		}},
		"a child of a node run that is gone": {rule: "children", sql: child + "parent_node_run_id = gen_random_uuid()" + of},
		"a child of another node":            {rule: "children", sql: child + "parent_node_run_id = (SELECT id FROM node_runs WHERE execution_id = $1 AND node_key = 'wait')" + of},
		"a child of another workflow":        {rule: "children", sql: child + "workflow_id = (SELECT workflow_id FROM executions WHERE id = $1), number = 9" + of},
		"two children of one node run": {rule: "children", see: func(h *history, e *check.Evidence) {
			twin := *e.World.Executions[h.child]
			twin.ID = uuid.New()
			e.World.Executions[twin.ID] = &twin
		}},
		"a child that outlived its parent":    {rule: "children", sql: child + "finished_at = now() + interval '1 hour'" + of},
		"a child that failed unnoticed":       {rule: "children", sql: child + "status = 'failed'" + of},
		"a child whose answer was changed":    {rule: "children", sql: fmt.Sprintf(call, `outputs = '{"result":"else"}'`)},
		"a child that was canceled alone":     {rule: "cancel", sql: canceled},
		"a node that has run nothing":         {rule: "children", sql: "DELETE FROM executions" + of},
		"a canceled child that went for well": {rule: "children", sql: canceled},
	}
}

func plantsInFiles() map[string]plant {
	const (
		file   = " WHERE execution_id = $1 AND path = 'b/a1'"
		chunks = " WHERE artifact_id = (SELECT id FROM artifacts" + file + ") AND number = 0"
	)
	word := func(word string) func(*history, *check.Evidence) {
		return func(h *history, e *check.Evidence) {
			for i, n := range e.Notes[h.id] {
				if n.Word == "found=c1," {
					e.Notes[h.id][i].Word = word
				}
			}
		}
	}
	return map[string]plant{
		"an artifact is missing":              {rule: "artifacts", sql: "DELETE FROM artifacts" + file},
		"an artifact was never complete":      {rule: "artifacts", sql: "UPDATE artifacts SET state = 'stored'" + file},
		"an artifact that nobody left":        {rule: "artifacts", sql: "UPDATE artifacts SET path = 'else'" + file},
		"an artifact of another node run":     {rule: "artifacts", sql: "UPDATE artifacts SET node_run_id = (SELECT id FROM node_runs WHERE execution_id = $1 AND node_key = 'steady')" + file},
		"an artifact of nobody":               {rule: "artifacts", sql: "UPDATE artifacts SET node_run_id = gen_random_uuid()" + file},
		"an artifact that lacks a chunk":      {rule: "artifacts", sql: "DELETE FROM artifact_chunks" + chunks},
		"an artifact with another byte":       {rule: "artifacts", sql: "UPDATE artifact_chunks SET data = set_byte(data, 0, 65)" + chunks},
		"an artifact with another hash":       {rule: "artifacts", sql: "UPDATE artifacts SET sha256 = sha256('else')" + file},
		"an artifact that was cut":            {rule: "artifacts", sql: "UPDATE artifacts a SET size = length(c.data), sha256 = sha256(c.data) FROM artifact_chunks c WHERE a.execution_id = $1 AND a.path = 'a0' AND c.artifact_id = a.id AND c.number = 0"},
		"a checkpoint is missing":             {rule: "checkpoints", sql: "DELETE FROM artifacts WHERE execution_id = $1 AND path = 'c2'"},
		"a checkpoint that was cut":           {rule: "checkpoints", sql: "UPDATE artifacts SET size = 1 WHERE execution_id = $1 AND path = 'c1'"},
		"a checkpoint that nobody made":       {rule: "checkpoints", sql: "UPDATE artifacts SET path = 'c3' WHERE execution_id = $1 AND path = 'c1'"},
		"a checkpoint of nobody":              {rule: "checkpoints", sql: "UPDATE artifacts SET node_run_id = gen_random_uuid() WHERE execution_id = $1 AND path = 'c1'"},
		"an old checkpoint in place of a new": {rule: "checkpoints", sql: "UPDATE artifacts SET checkpoint = 1 WHERE execution_id = $1 AND path = 'c1'"},
		"a checkpoint was not restored":       {rule: "restored", see: word("found=")},
		"another checkpoint was restored":     {rule: "restored", see: word("found=c2,")},
		"a checkpoint was lost with its attempt": {
			rule: "restored", sql: "UPDATE execution_events SET data = '{\"name\":\"c2\",\"number\":1}' WHERE execution_id = $1 AND type = 'checkpoint' AND data->>'number' = '1'",
		},
	}
}

func plantsInData() map[string]plant {
	return map[string]plant{
		"a chunk is missing":                 {rule: "output", sql: "DELETE FROM execution_logs WHERE execution_id = $1 AND seq = 9"},
		"a chunk twice":                      {rule: "output", sql: "INSERT INTO execution_logs SELECT day, execution_id, seq + 1000, time, node_run_id, stream, byte_offset, data FROM execution_logs WHERE execution_id = $1 AND seq = 9"},
		"a byte differs":                     {rule: "output", sql: "UPDATE execution_logs SET data = set_byte(data, 0, 65) WHERE execution_id = $1 AND seq = 9"},
		"an interrupted run wrote else":      {rule: "output", sql: "UPDATE execution_logs SET data = 'else' WHERE execution_id = $1 AND seq = 5"},
		"output of a node without a command": {rule: "output", sql: "UPDATE execution_logs SET node_run_id = (SELECT id FROM node_runs WHERE execution_id = $1 AND node_key = 'wait') WHERE execution_id = $1 AND seq = 5"},
		"output of nobody":                   {rule: "output", sql: "UPDATE execution_logs SET node_run_id = gen_random_uuid() WHERE execution_id = $1 AND seq = 5"},
		"an offset with a gap":               {rule: "offsets", sql: "UPDATE execution_logs SET byte_offset = byte_offset + 1 WHERE execution_id = $1 AND seq = 10"},
		"a count that is wrong":              {rule: "offsets", sql: "UPDATE node_runs SET stdout_bytes = stdout_bytes + 1 WHERE execution_id = $1 AND node_key = 'steady'"},
		"a secret in the output":             {rule: "secrets", sql: "UPDATE execution_logs SET data = 'hunter-1-2-3' WHERE execution_id = $1 AND seq = 5"},
		"a secret in an event":               {rule: "secrets", sql: `UPDATE execution_events SET data = '{"x":"hunter-1-2-3"}' WHERE execution_id = $1 AND seq = 2`},
		"a secret in an output":              {rule: "secrets", sql: `UPDATE node_runs SET outputs = '{"value":"hunter-1-2-3"}' WHERE execution_id = $1 AND node_key = 'steady'`},
		"a secret in the result":             {rule: "secrets", sql: `UPDATE execution_data SET outputs = '{"result":"hunter-1-2-3"}' WHERE execution_id = $1`},
		"a secret in base64": {rule: "secrets", sql: "UPDATE execution_logs SET data = '" +
			base64.StdEncoding.EncodeToString([]byte("hunter-1-2-3")) + "' WHERE execution_id = $1 AND seq = 5"},
		"a read that is not on record":         {rule: "audit", sql: "DELETE FROM audit_log WHERE execution_id = $1"},
		"a read under another claim":           {rule: "audit", sql: `UPDATE audit_log SET data = '{"claim":2}' WHERE execution_id = $1`},
		"a read of another secret":             {rule: "audit", sql: "UPDATE audit_log SET target = 'OTHER' WHERE execution_id = $1"},
		"a cancel that came to nothing":        {rule: "cancel", see: func(_ *history, e *check.Evidence) { e.Accepted[0].Canceled = true }},
		"a cancel that nobody asked for":       {rule: "cancel", sql: "UPDATE executions SET status = 'canceled' WHERE id = $1"},
		"an answer that was forgotten":         {rule: "decisions", sql: "UPDATE node_runs SET decision = NULL WHERE execution_id = $1 AND node_key = 'approval'"},
		"an answer that was turned":            {rule: "decisions", see: func(_ *history, e *check.Evidence) { e.Accepted[0].Decided["approval"] = false }},
		"an answer without effect":             {rule: "decisions", sql: "UPDATE node_runs SET status = 'failed' WHERE execution_id = $1 AND node_key = 'approval'"},
		"a cancel by the machinery":            {rule: "cancel", sql: "UPDATE executions SET status = 'canceled', cancel_requested_at = now() WHERE id = $1"},
		"a group with too many":                {rule: "groups", sql: crowd("interval '1 second'", "interval '1 second'")},
		"another group":                        {rule: "groups", sql: "UPDATE executions SET concurrency_group = 'other' WHERE id = $1"},
		"an ended execution has a slot":        {rule: "rest", sql: inGroup("concurrency_slots (execution_id, group_id) SELECT $1, id")},
		"an ended execution is blocked":        {rule: "rest", sql: inGroup("concurrency_waiters (execution_id, group_id, run_order, paused, cancels) SELECT $1, id, now(), false, false")},
		"a claim that does not rise":           {rule: "claims", sql: `UPDATE execution_events SET data = '{"claim":1}' WHERE execution_id = $1 AND seq = 8`},
		"a claim that the execution never had": {rule: "claims", sql: "UPDATE executions SET claim = 2 WHERE id = $1"},
		"a sandbox that lives":                 {rule: "sandboxes", sql: "UPDATE sandboxes SET state = 'ready', ended_at = NULL WHERE execution_id = $1"},
		"a sandbox without an end":             {rule: "sandboxes", see: func(_ *history, e *check.Evidence) { e.Sandboxes = []string{"p1"} }},
		"a kept sandbox that is gone":          {rule: "sandboxes", sql: "UPDATE sandboxes SET state = 'kept', ended_at = NULL WHERE execution_id = $1"},
		"a process":                            {rule: "leftovers", see: func(_ *history, e *check.Evidence) { e.Processes = []string{"1 init"} }},
		"an execution lost its place":          {rule: "misplaced", see: func(_ *history, e *check.Evidence) { e.Misplaced = 1 }},
	}
}

// plantsOfNothing are histories in which nothing is to be found.
func plantsOfNothing() map[string]plant {
	const canceledUpdate = "UPDATE executions SET status = 'canceled', cancel_requested_at = now() WHERE id = $1"
	return map[string]plant{
		"a sound history":                {},
		"a cancel":                       {sql: canceledUpdate, see: func(_ *history, e *check.Evidence) { e.Accepted[0].Canceled = true }},
		"one after the other in a group": {sql: crowd("interval '0'", "interval '1 hour'")},
		"a cancel that was not answered": {sql: canceledUpdate, see: asked},
		"a cancel for a later one": {sql: canceledUpdate, see: func(h *history, e *check.Evidence) {
			h.workflow.Group.Conflict = plan.Replace
			later := *e.World.Executions[h.id]
			later.ID, later.Canceled, later.Status = uuid.UUID{15: 1}, false, "failed" // the id was made before, and the row written after
			later.QueuedAt = later.QueuedAt.Add(time.Microsecond)
			later.NodeRuns = slices.Clone(later.NodeRuns)
			child := *e.World.Executions[h.child]
			for i, n := range later.NodeRuns {
				if n.Key == "call" {
					call := *n
					call.ID, child.ID = uuid.New(), uuid.New()
					later.NodeRuns[i], child.Parent, child.ParentRun = &call, &later.ID, &call.ID
				}
			}
			e.World.Executions[child.ID] = &child
			e.World.Executions[later.ID] = &later
			e.Accepted = append(e.Accepted, check.Accepted{ID: later.ID, Workflow: "chaos-1"})
			e.Notes[later.ID] = e.Notes[h.id]
		}},
		"a child that was canceled by a client": {sql: "WITH x AS (UPDATE executions SET status = 'canceled', cancel_requested_at = now() WHERE parent_execution_id = $1 RETURNING 1) " +
			`UPDATE node_runs SET status = 'failed', error = '{"code":"child_canceled"}' WHERE execution_id = $1 AND node_key = 'call'`, see: func(h *history, e *check.Evidence) {
			e.Accepted = append(e.Accepted, check.Accepted{ID: h.child, Workflow: "chaos-2", Child: true, Canceled: true})
		}},
		"a cancel that passed down": {sql: "UPDATE executions SET status = 'canceled', cancel_requested_at = now() WHERE id = $1 OR parent_execution_id = $1", see: func(h *history, e *check.Evidence) {
			asked(h, e)
			for _, n := range e.World.Executions[h.id].NodeRuns {
				if n.Key == "call" {
					n.Status = "canceled"
				}
			}
		}},
		"a cancel that ended nodes": {sql: "WITH x AS (" + canceledUpdate + ") UPDATE node_runs SET status = 'canceled' WHERE execution_id = $1 AND node_key = 'report'", see: asked},
		"a cancel instead of a retry": {sql: "WITH x AS (" + canceledUpdate + ") DELETE FROM node_runs WHERE execution_id = $1 AND node_key = 'flaky' AND attempt = 2", see: func(h *history, e *check.Evidence) {
			asked(h, e)
			e.Notes[h.id] = slices.DeleteFunc(e.Notes[h.id], func(n check.Note) bool { return n.Node == "flaky" && n.Attempt == 2 })
			e.World.Executions[h.id].Chunks = slices.DeleteFunc(e.World.Executions[h.id].Chunks, func(c check.Chunk) bool {
				return !slices.ContainsFunc(e.World.Executions[h.id].NodeRuns, func(n *check.NodeRun) bool { return n.ID == c.NodeRunID })
			})
		}},
		"a kept sandbox": {sql: "UPDATE sandboxes SET state = 'kept', ended_at = NULL WHERE execution_id = $1", see: func(_ *history, e *check.Evidence) {
			e.Sandboxes = []string{"p1"}
		}},
	}
}

// TestRulesFindWhatIsPlanted damages a sound history in one place at a time: in the database by a statement, or in what was seen
// outside. The rule that it belongs to must tell; a sound history has nothing to tell.
func TestRulesFindWhatIsPlanted(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	for name, c := range plants() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHistory(t, pool)
			if c.sql != "" {
				pgtest.Exec(t, pool, c.sql, h.id)
			}
			world, err := check.Load(t.Context(), pool)
			if err != nil {
				t.Fatal(err)
			}
			e := h.evidence(h.only(world))
			if c.see != nil {
				c.see(h, e)
			}
			found := check.Violations(e)
			told := slices.ContainsFunc(found, func(v check.Violation) bool { return v.Rule == c.rule })
			if c.rule == "" && len(found) > 0 || c.rule != "" && !told {
				t.Errorf("found %v", found)
			}
		})
	}
}

// asked has a client have asked for a cancel.
func asked(_ *history, e *check.Evidence) { e.Accepted[0].Asked = true }

// crowd adds an execution in the group of $1, which was claimed and ended at such times after that one's claim and end.
func crowd(claimed, ended string) string {
	return `WITH x AS (INSERT INTO executions (id, organization_id, workflow_id, workflow_version, number, status, source, claim, queued_at, queue_deadline_at, claimed_at,
    concurrency_group, finished_at)
SELECT gen_random_uuid(), organization_id, workflow_id, 1, 2, 'failed', 'api', 1, now(), now(), now(), concurrency_group, finished_at + ` + ended + `
FROM executions WHERE id = $1 RETURNING id, finished_at)
INSERT INTO execution_events (day, execution_id, seq, time, type, data)
SELECT v.day, x.id, 1, CASE WHEN ` + claimed + ` > '0' THEN v.time + ` + claimed + ` ELSE (SELECT finished_at FROM executions WHERE id = $1) END, 'execution.claimed', '{"claim":1}'
FROM x, execution_events v WHERE v.execution_id = $1 AND v.seq = 2`
}

// inGroup puts $1 into the table.
func inGroup(into string) string {
	return `WITH g AS (INSERT INTO concurrency_groups (id, organization_id, name, max_running)
SELECT gen_random_uuid(), organization_id, concurrency_group, 1 FROM executions WHERE id = $1 RETURNING id) INSERT INTO ` + into + " FROM g"
}

// workflow has a node of every kind that matters to the rules.
func workflow() *plan.Workflow {
	return &plan.Workflow{
		Slug: "chaos-1", Secret: "hunter-1-2-3", Output: "set",
		Nodes: []plan.Node{
			{Key: "steady", Kind: plan.Steady, Lines: 4, Padding: 2, Secret: true},
			{Key: "flaky", Kind: plan.Flaky, Lines: 1, Fails: 1, ExitCode: 3},
			{Key: "broken", Kind: plan.Broken, Lines: 1, ExitCode: 5},
			{Key: "below", Kind: plan.Steady, Lines: 1, Needs: []string{"broken"}},
			{Key: "approval", Kind: plan.Approval, Approve: true},
			{Key: "wait", Kind: plan.Wait},
			{Key: "matrix", Kind: plan.Broken, Lines: 1, ExitCode: 6, FailsAt: 1, Fan: plan.Fan{Rows: 2, Columns: 2, MaxParallel: 1}},
			{Key: "repeat", Kind: plan.Steady, Lines: 1, Fan: plan.Fan{Times: 3, Until: 1}},
			{Key: "patient", Kind: plan.Set, Needs: []string{"repeat"}, Fan: plan.Fan{Rows: 1, Columns: 2, MaxParallel: 2, Patient: true}},
			{Key: "set", Kind: plan.Set, Needs: []string{"steady", "approval", "wait", "patient"}},
			{Key: "call", Kind: plan.Call, Calls: "chaos-2"},
			{Key: "files", Kind: plan.Steady, Lines: 4, Saves: 2, Leaves: []plan.File{{Path: "a0", Size: 100}, {Path: "b/a1", Size: 7}}},
			{Key: "report", Kind: plan.Steady, Lines: 2, Always: true, Needs: []string{"broken"}},
		},
	}
}

// history is one execution of it, as it should be: taken over once, with an interrupted attempt, and failed by its broken node.
type history struct {
	t        *testing.T
	pool     *pgxpool.Pool
	id       uuid.UUID
	child    uuid.UUID // what its node call has run
	workflow *plan.Workflow
	seq      int64
	notes    []check.Note
}

func newHistory(t *testing.T, pool *pgxpool.Pool) *history {
	t.Helper()
	organization, workflowID := pgtest.Workflow(t, pool)
	h := &history{t: t, pool: pool, id: uuid.Must(uuid.NewV7()), workflow: workflow()}
	h.workflow.Group = &plan.Group{Name: "group-" + h.id.String(), Limit: 1, Conflict: plan.Queue}
	pgtest.Exec(t, pool, "UPDATE workflows SET slug = 'chaos-1' WHERE id = $1", workflowID)
	pgtest.Exec(t, pool, `INSERT INTO executions (id, organization_id, workflow_id, workflow_version, number, status, source, claim, queued_at, queue_deadline_at, claimed_at, finished_at, concurrency_group)
VALUES ($1, $2, $3, 1, 1, 'failed', 'api', 3, now(), now(), now(), now() + interval '10 minutes', $4)`, h.id, organization, workflowID, h.workflow.Group.Name)
	pgtest.Exec(t, pool, "INSERT INTO execution_data (execution_id, inputs) VALUES ($1, '{}')", h.id)
	pgtest.Exec(t, pool, "INSERT INTO sandboxes (id, execution_id, provider, host, provider_id, state, claim, ended_at) VALUES (gen_random_uuid(), $1, 'local', 'h', 'p1', 'destroyed', 1, now())", h.id)
	for _, claim := range []string{"1", "3"} {
		pgtest.Exec(t, pool, `INSERT INTO audit_log (id, organization_id, actor_kind, actor, action, execution_id, target, data)
VALUES (gen_random_uuid(), $1, 'worker', 'w', 'secret.read', $2, 'CHAOS_TOKEN', jsonb_build_object('version', 1, 'claim', $3::bigint))`, organization, h.id, claim)
	}
	h.event("execution.queued", "{}")                // 1
	h.event("execution.claimed", `{"claim":1}`)      // 2
	h.event("node.started", "{}")                    // 3
	h.event("node.started", "{}")                    // 4
	h.cut("broken", 1)                               // 5
	h.event("node.interrupted", "{}")                // 6
	h.event("execution.released", "{}")              // 7
	h.event("execution.claimed", `{"claim":3}`)      // 8
	h.ran("steady", 1, "completed", 0)               // 9, 10
	h.ran("flaky", 1, "failed", 3)                   // 11
	h.ran("flaky", 2, "completed", 0)                // 12
	h.ran("broken", 2, "failed", 5)                  // 13
	h.other("below", "skipped", `{}`)                //
	h.other("approval", "completed", `{"by":"cli"}`) //
	pgtest.Exec(t, pool, `UPDATE node_runs SET decision = '{"approved":true}' WHERE execution_id = $1 AND node_key = 'approval'`, h.id)
	h.other("wait", "completed", `{}`)
	h.ranAt("matrix", 0, 1, "completed", 0)
	h.ranAt("matrix", 1, 1, "failed", 6)
	h.nodeRun(at{"matrix", 2, 1}, "skipped", `{}`, "", nil)
	h.nodeRun(at{"matrix", 3, 1}, "skipped", `{}`, "", nil)
	h.ranAt("repeat", 0, 1, "completed", 0)
	h.ranAt("repeat", 1, 1, "completed", 0)
	h.nodeRun(at{"patient", 0, 1}, "completed", `{"value":"repeat-1-0-1-14;r0c0"}`, "", nil)
	h.nodeRun(at{"patient", 1, 1}, "completed", `{"value":"repeat-1-0-1-14;r0c1"}`, "", nil)
	h.other("set", "completed", `{"value":"steady-4-2;true;completed;repeat-1-0-1-14;r0c0+repeat-1-0-1-14;r0c1;"}`)
	h.called(organization)
	h.left()
	h.ran("report", 1, "completed", 0)
	h.event("node.started", "{}")
	return h
}

// left adds an attempt that was lost after its first checkpoint, and one that was given it, and has left all.
func (h *history) left() {
	planned := h.workflow.Node("files")
	first := h.nodeRun(at{"files", 0, 1}, "interrupted", `{}`, "interrupted", nil)
	h.eventOf(first, "node.started", "{}")
	h.noted("files", 0, 1, "begin", "found=")
	h.eventOf(first, "checkpoint", `{"name":"c1","number":1}`)
	h.noted("files", 0, 2, "begin", "found=c1,")
	exit := 0
	second := h.nodeRun(at{"files", 0, 2}, "completed", `{"value":"`+planned.Value(0)+`"}`, "", &exit)
	stdout, stderr := planned.Output(0)
	h.chunk(second, "stdout", stdout)
	h.chunk(second, "stderr", stderr)
	h.eventOf(second, "node.started", "{}")
	for i := range 2 {
		name, content := planned.Checkpoint(0, i+1)
		h.eventOf(second, "checkpoint", fmt.Sprintf(`{"name":%q,"number":%d}`, name, i+2))
		h.file(second, i+2, name, content)
	}
	for _, f := range planned.Leaves {
		h.file(second, 0, f.Path, planned.Content(0, f))
	}
	h.noted("files", 0, 2, "end")
}

// file adds a file of two chunks.
func (h *history) file(nodeRun uuid.UUID, checkpoint int, path string, content []byte) {
	id := uuid.New()
	pgtest.Exec(h.t, h.pool, `INSERT INTO artifacts (id, execution_id, node_run_id, checkpoint, path, executable, size, sha256, state)
VALUES ($1, $2, $3, $4, $5, false, length($6::bytea), sha256($6::bytea), 'complete')`, id, h.id, nodeRun, checkpoint, path, content)
	for number, part := range [][]byte{content[:len(content)/2], content[len(content)/2:]} {
		pgtest.Exec(h.t, h.pool, "INSERT INTO artifact_chunks (day, artifact_id, number, data) VALUES (execution_day($1), $2, $3, $4)", h.id, id, number, part)
	}
}

// called adds the node run of call, and what it has run.
func (h *history) called(organization uuid.UUID) {
	run := h.nodeRun(at{"call", 0, 1}, "completed", `{"result":"completed"}`, "", nil)
	workflowID := uuid.Must(uuid.NewV7())
	h.child = uuid.Must(uuid.NewV7())
	pgtest.Exec(h.t, h.pool, `WITH w AS (INSERT INTO workflows (id, organization_id, slug, name, latest_version) VALUES ($1, $2, 'chaos-2', 'Workflow', 1) RETURNING id)
INSERT INTO workflow_versions (workflow_id, version, source) SELECT id, 1, 'name: w' FROM w`, workflowID, organization)
	pgtest.Exec(h.t, h.pool, `INSERT INTO executions (id, organization_id, workflow_id, workflow_version, number, status, source, claim, queued_at, queue_deadline_at, claimed_at, finished_at,
    parent_execution_id, parent_node_run_id, depth)
VALUES ($1, $2, $3, 1, 1, 'completed', 'execution', 1, now(), now(), now(), now() + interval '5 minutes', $4, $5, 1)`, h.child, organization, workflowID, h.id, run)
	pgtest.Exec(h.t, h.pool, `INSERT INTO execution_data (execution_id, inputs, outputs) VALUES ($1, '{}', '{"result":"completed"}')`, h.child)
	pgtest.Exec(h.t, h.pool, `INSERT INTO node_runs (id, execution_id, node_key, status, outputs, started_at, finished_at)
VALUES (gen_random_uuid(), $1, 'pause', 'completed', '{}', now(), now() + interval '5 minutes')`, h.child)
}

func (h *history) eventOf(nodeRun uuid.UUID, kind, data string) {
	h.event(kind, data)
	pgtest.Exec(h.t, h.pool, "UPDATE execution_events SET node_run_id = $1 WHERE execution_id = $2 AND seq = $3", nodeRun, h.id, h.seq)
}

func (h *history) event(kind, data string) {
	h.seq++
	pgtest.Exec(h.t, h.pool, "INSERT INTO execution_events (day, execution_id, seq, type, data) VALUES (execution_day($1), $1, $2, $3, $4::text::jsonb)", h.id, h.seq, kind, data)
}

// at names a node run.
type at struct {
	key            string
	index, attempt int
}

func (h *history) nodeRun(a at, status, outputs, code string, exit *int) uuid.UUID {
	id := uuid.New()
	pgtest.Exec(h.t, h.pool, `INSERT INTO node_runs (id, execution_id, node_key, index, attempt, status, exit_code, error, outputs, started_at, finished_at)
VALUES ($1, $2, $3, $9, $4, $5, $6, CASE WHEN $7 <> '' THEN jsonb_build_object('code', $7::text) END, $8::text::jsonb, now(), now() + interval '5 minutes')`,
		id, h.id, a.key, a.attempt, status, exit, code, outputs, a.index)
	return id
}

// ran is a command that came to its own end.
func (h *history) ran(key string, attempt int, status string, exit int) {
	h.ranAt(key, 0, attempt, status, exit)
}

func (h *history) ranAt(key string, index, attempt int, status string, exit int) {
	planned := h.workflow.Node(key)
	outputs, code := `{}`, "exit_code"
	if status == "completed" {
		outputs, code = `{"value":"`+planned.Value(index)+`"}`, ""
	}
	id := h.nodeRun(at{key, index, attempt}, status, outputs, code, &exit)
	stdout, stderr := planned.Output(index)
	h.chunk(id, "stdout", stdout)
	h.chunk(id, "stderr", stderr)
	h.noted(key, index, attempt, "begin", "end")
}

// cut is a command that was lost.
func (h *history) cut(key string, attempt int) {
	id := h.nodeRun(at{key, 0, attempt}, "interrupted", `{}`, "interrupted", nil)
	stdout, _ := h.workflow.Node(key).Output(0)
	h.chunk(id, "stdout", stdout[:len(stdout)/2])
	h.noted(key, 0, attempt, "begin")
}

func (h *history) other(key, status, outputs string) {
	h.nodeRun(at{key, 0, 1}, status, outputs, "", nil)
}

func (h *history) chunk(nodeRun uuid.UUID, stream string, data []byte) {
	if len(data) == 0 {
		return
	}
	h.seq++
	pgtest.Exec(h.t, h.pool, "INSERT INTO execution_logs (day, execution_id, seq, node_run_id, stream, byte_offset, data) VALUES (execution_day($1), $1, $2, $3, $4, 0, $5)",
		h.id, h.seq, nodeRun, stream, data)
	pgtest.Exec(h.t, h.pool, "UPDATE node_runs SET "+stream+"_bytes = $2 WHERE id = $1", nodeRun, len(data))
}

func (h *history) noted(key string, index, attempt int, words ...string) {
	for _, word := range words {
		h.notes = append(h.notes, check.Note{Node: key, Index: index, Attempt: attempt, Word: word, At: time.Now()})
	}
}

// only leaves out the other histories of the database.
func (h *history) only(w *check.World) *check.World {
	others := func(id uuid.UUID) bool { return id != h.id && id != h.child }
	maps.DeleteFunc(w.Executions, func(id uuid.UUID, _ *check.Execution) bool { return others(id) })
	w.Crowds = slices.DeleteFunc(w.Crowds, func(c check.Crowd) bool { return c.Group != h.workflow.Group.Name })
	w.Queued = slices.DeleteFunc(w.Queued, others)
	w.Sandboxes = slices.DeleteFunc(w.Sandboxes, func(s check.Sandbox) bool { return others(s.ExecutionID) })
	return w
}

// evidence is what was seen of it from outside.
func (h *history) evidence(w *check.World) *check.Evidence {
	return &check.Evidence{
		World: w, Workflows: map[string]*plan.Workflow{
			"chaos-1": h.workflow,
			"chaos-2": {Slug: "chaos-2", Nodes: []plan.Node{{Key: "pause", Kind: plan.Wait}}, Output: "pause"},
		},
		Accepted: []check.Accepted{{ID: h.id, Workflow: "chaos-1", Decided: map[string]bool{"approval": true}}},
		Notes:    map[uuid.UUID][]check.Note{h.id: slices.Clone(h.notes)},
	}
}

func (h *history) note(e *check.Evidence, node string, attempt int, word string) {
	e.Notes[h.id] = append(e.Notes[h.id], check.Note{Node: node, Attempt: attempt, Word: word, At: time.Now()})
}

// extend has a command go on until now.
func (h *history) extend(e *check.Evidence, node string, index int) {
	for i, n := range e.Notes[h.id] {
		if n.Node == node && n.Index == index && n.Word == "end" {
			e.Notes[h.id][i].At = time.Now().Add(time.Minute)
		}
	}
}

func (h *history) forget(e *check.Evidence, node string) {
	e.Notes[h.id] = slices.DeleteFunc(e.Notes[h.id], func(n check.Note) bool { return n.Node == node })
}

// A rule without a row in the table would be one that nobody has seen to work.
func TestEveryRuleIsPlanted(t *testing.T) {
	t.Parallel()
	planted := map[string]bool{}
	for _, p := range plants() {
		planted[p.rule] = true
	}
	for _, name := range check.Rules() {
		if !planted[name] {
			t.Errorf("nothing is planted for the rule %s", name)
		}
	}
}
