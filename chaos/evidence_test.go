package chaos

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"foundry/chaos/check"
	"foundry/chaos/plan"
	"foundry/internal/pgtest"
)

// How long rest may take on a slow machine. Workers sweep every quarter of a minute, and end a sandbox of which no row knows, or only one that has ended,
// when they see it twice: one whose creation had begun, in a worker that was frozen then, when another destroyed it. With the limit of a form's storm and
// a minute or two to begin and to end, it all must fit into the time that .ci/run gives.
const (
	restLimit  = 3 * time.Minute
	sweepLimit = 2 * time.Minute
)

// rest waits until everything that was accepted has ended and its sandboxes are gone.
func (r *run) rest(ctx context.Context) {
	count := func(sql string) func() (int, error) {
		return func() (int, error) { return get[int](ctx, r.cluster, sql) }
	}
	for _, wait := range []struct {
		what  string
		limit time.Duration
		count func() (int, error)
	}{
		{"executions have not ended", restLimit, count("SELECT count(*) FROM executions WHERE finished_at IS NULL")},
		{"sandboxes have not ended", sweepLimit, count("SELECT count(*) FROM sandboxes WHERE state NOT IN ('destroyed', 'failed', 'kept')")},
		{"sandboxes belong to nothing", sweepLimit, func() (int, error) { return r.orphans(ctx) }},
	} {
		err := eventually(ctx, wait.limit, func() error {
			n, err := wait.count()
			if err == nil && n > 0 {
				err = fmt.Errorf("%d %s", n, wait.what)
			}
			return err
		})
		if err != nil {
			r.t.Errorf("the run does not come to rest: %v\n%s", err, r.explain(ctx))
		}
	}
}

// orphans counts the sandboxes that there are and that are not kept.
func (r *run) orphans(ctx context.Context) (int, error) {
	there, err := r.there()
	if err != nil {
		return 0, err
	}
	const sql = "SELECT count(*) FROM unnest($1::text[]) AS t (id) WHERE NOT EXISTS (SELECT 1 FROM sandboxes s WHERE s.provider_id = t.id AND s.state = 'kept')"
	return get[int](ctx, r.cluster, sql, there)
}

// there are the sandboxes that the provider has, by its ids.
func (r *run) there() (ids []string, err error) {
	entries, err := os.ReadDir(r.sandboxes())
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), ".") {
			continue // its building was cut short; a provider that starts removes it when it is old enough to be nobody's
		}
		ids = append(ids, entry.Name())
	}
	return ids, nil
}

// evidence collects what the rules look at. No process runs any more.
func (r *run) evidence(ctx context.Context) *check.Evidence {
	world, err := check.Load(ctx, r.cluster.pool)
	if err != nil {
		r.t.Fatal(err)
	}
	notes, err := check.ReadLedger(r.ledger())
	if err != nil {
		r.t.Fatal(err)
	}
	e := &check.Evidence{World: world, Notes: notes, Accepted: r.list(), Workflows: map[string]*plan.Workflow{}}
	for _, w := range r.workflows {
		e.Workflows[w.Slug] = w
	}
	if e.Sandboxes, err = r.there(); err != nil {
		r.t.Fatal(err)
	}
	for _, p := range processesOf(r.state()) {
		e.Processes = append(e.Processes, p.String())
	}
	e.Misplaced = r.misplaced()
	r.ended, r.crowds = map[string]int{}, world.Crowds
	for _, x := range world.Executions {
		r.ended[x.Status]++
		r.fanned.add(r, x)
	}
	return e
}

// misplaced counts what control planes have said about executions in no place: their counters end with them.
func (r *run) misplaced() (n float64) {
	r.eachRecord(func(record record) {
		if strings.Contains(record.Message, "an execution was in no place") {
			n++
		}
	})
	return n
}

// complaints are the lines of logs that nothing explains which this test has done.
func (r *run) complaints() (lines []string) {
	r.eachRecord(func(record record) {
		if record.bad() {
			lines = append(lines, fmt.Sprintf("log: %.400s", record.line))
		}
	})
	return lines
}

func (r *run) eachRecord(f func(record)) {
	logs, err := filepath.Glob(filepath.Join(r.logs(), "*.log"))
	if err != nil || len(logs) == 0 {
		r.t.Fatalf("there are no logs: %v", err)
	}
	for _, name := range logs {
		if err := readLog(name, f); err != nil {
			r.t.Error(err)
		}
	}
}

// judge reports every broken promise, and the histories of the executions that they are about.
func (r *run) judge(ctx context.Context) {
	evidence := r.evidence(ctx)
	var broken []string
	for _, v := range check.Violations(evidence) {
		broken = append(broken, v.String())
	}
	places, err := pgtest.Violations(ctx, r.cluster.pool)
	if err != nil {
		r.t.Error(err)
	}
	broken = append(append(broken, places...), r.complaints()...)
	const most = 50
	for i, text := range broken {
		if i == most {
			r.t.Errorf("and %d more", len(broken)-most)
			break
		}
		r.t.Error(text)
	}
	r.tell(evidence.World, broken)
}

// tell logs the histories of at most three executions that are named in the texts.
func (r *run) tell(w *check.World, texts []string) {
	all := strings.Join(texts, "\n")
	told := 0
	for id, x := range w.Executions {
		if told == 3 || !strings.Contains(all, id.String()) {
			continue
		}
		told++
		var b strings.Builder
		fmt.Fprintf(&b, "execution %s of %s is %s\n", id, r.workflow(x.Workflow), x.Status)
		names := map[string]string{}
		for _, n := range x.NodeRuns {
			names[n.ID.String()] = fmt.Sprintf("%s/%d/%d", n.Key, n.Index, n.Attempt)
			fmt.Fprintf(&b, "  node run %s %s index %d attempt %d: %s %s\n", n.ID, n.Key, n.Index, n.Attempt, n.Status, n.Failure.Code)
		}
		for _, event := range x.Events {
			node := ""
			if event.NodeRunID != nil {
				node = names[event.NodeRunID.String()]
			}
			fmt.Fprintf(&b, "  %4d %s %s %.200s\n", event.Seq, event.Type, node, event.Data)
		}
		r.t.Log(b.String())
	}
}
