package chaos

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// What explain shows, at most.
const (
	explainedRows  = 60
	explainedLines = 8 // of each process's log
)

// explanations are what is asked of the database when a run does not come to its end. Each finds lines of text.
var explanations = []struct{ title, sql string }{ //nolint:gochecknoglobals // a table
	{"executions that have not ended", `
SELECT format('%s %s is %s, claim %s, signal %s, seq %s: %s%s%s%s%s%s%s', e.id, w.slug, e.status, e.claim, e.signal, e.last_seq,
    COALESCE('held by ' || k.pid || ' (' || k.state || ', lease until ' || k.lease_until::time || '); ', ''),
    CASE WHEN q.execution_id IS NOT NULL THEN 'in the queue; ' END, CASE WHEN b.execution_id IS NOT NULL THEN 'blocked; ' END, e.concurrency_group || '; ',
    'parked since ' || e.parked_at::time || '; ',
    'timer ' || t.reason || ' at ' || t.due_at::time || '; ',
    'to be canceled since ' || e.cancel_requested_at::time)
FROM executions e JOIN workflows w ON w.id = e.workflow_id LEFT JOIN workers k ON k.id = e.worker_id
    LEFT JOIN execution_queue q ON q.execution_id = e.id LEFT JOIN execution_timers t ON t.execution_id = e.id
    LEFT JOIN concurrency_waiters b ON b.execution_id = e.id
WHERE e.finished_at IS NULL ORDER BY e.id`},
	{"their nodes that have not ended", `
SELECT format('%s %s/%s/%s is %s since %s%s%s%s', n.execution_id, n.node_key, n.index, n.attempt, n.status, n.started_at::time,
    ', asks ' || n.prompt::text, ', was answered ' || n.decision::text, ', in ' || n.sandbox_id)
FROM node_runs n JOIN executions e ON e.id = n.execution_id WHERE e.finished_at IS NULL AND n.finished_at IS NULL ORDER BY n.execution_id, n.started_at`},
	{"their newest events", `
SELECT format('%s %s %s %s %s', v.execution_id, v.seq, v.time::time, v.type, left(v.data::text, 200))
FROM executions e, LATERAL (
    SELECT * FROM execution_events v WHERE v.day = execution_day(e.id) AND v.execution_id = e.id ORDER BY v.seq DESC LIMIT 5) AS v
WHERE e.finished_at IS NULL ORDER BY v.execution_id, v.seq`},
	{"sandboxes that have not ended", `
SELECT format('%s of %s is %s (%s), claim %s, on %s: %s', id, execution_id, state, reason, claim, host, provider_id)
FROM sandboxes WHERE state NOT IN ('destroyed', 'failed', 'kept') ORDER BY id`},
	{"workers that are not gone", `
SELECT format('%s is %s, pid %s, lease until %s', id, state, pid, lease_until::time) FROM workers WHERE state <> 'gone' ORDER BY id`},
	{"connections that wait or are in a transaction", `
SELECT format('%s %s %s since %s, waits for %s/%s: %s', pid, application_name, state, xact_start::time, wait_event_type, wait_event, left(query, 150))
FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND (state <> 'idle' OR wait_event_type = 'Lock')`},
	{"the time there", "SELECT now()::time::text"},
}

// explain says why a run does not come to its end: what there is in the database, and what the processes do. It works while everything else hangs.
func (r *run) explain(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var b strings.Builder
	pid, err := r.cluster.postmaster()
	fmt.Fprintf(&b, "PostgreSQL runs as %d (%v)\n", pid, err)
	for _, e := range explanations {
		fmt.Fprintf(&b, "%s:\n", e.title)
		asking, answered := context.WithTimeout(ctx, 10*time.Second)
		lines, err := linesOf(asking, r.cluster.url, e.sql)
		answered()
		for i, line := range lines {
			if i == explainedRows {
				fmt.Fprintf(&b, "  and %d more\n", len(lines)-i)
				break
			}
			fmt.Fprintf(&b, "  %s\n", line)
		}
		if err != nil {
			fmt.Fprintf(&b, "  %v\n", err)
		}
	}
	for _, p := range r.processes() {
		b.WriteString(p.describe())
	}
	return b.String()
}

// explainBefore has a run that is still under way shortly before the deadline of the test binary say where it is, unless stop is called before.
func (r *run) explainBefore() (stop func()) {
	deadline, limited := r.t.Deadline()
	if !limited {
		return func() {}
	}
	timer := time.AfterFunc(time.Until(deadline)-time.Minute, func() {
		r.t.Errorf("the time of the test is nearly over\n%s", r.explain(context.Background()))
	})
	return func() { timer.Stop() }
}

// linesOf asks on a connection of its own: those of the pool may be what hangs.
func linesOf(ctx context.Context, url, sql string) ([]string, error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, sql)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// describe says how the present instance is, with the end of its log.
func (p *process) describe() string {
	if !p.mu.TryLock() {
		return p.name + " is being started, or looked at\n"
	}
	defer p.mu.Unlock()
	var b strings.Builder
	switch {
	case p.cmd == nil:
		fmt.Fprintf(&b, "%s was never started\n", p.name)
		return b.String()
	case isClosed(p.exited):
		fmt.Fprintf(&b, "%s, instance %d, ended: %s\n", p.name, p.instance, p.cmd.ProcessState)
	default:
		fmt.Fprintf(&b, "%s, instance %d, runs as %d; stopped: %v, place closed: %v\n", p.name, p.instance, p.cmd.Process.Pid, p.frozen, p.closed)
	}
	text, err := os.ReadFile(p.log)
	if err != nil {
		fmt.Fprintf(&b, "  %v\n", err)
		return b.String()
	}
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	for _, line := range lines[max(0, len(lines)-explainedLines):] {
		fmt.Fprintf(&b, "  %.300s\n", line)
	}
	return b.String()
}
