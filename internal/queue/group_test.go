package queue_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"foundry/internal/errs"
	"foundry/internal/execution"
	"foundry/internal/pgtest"
	"foundry/internal/queue"
	"foundry/internal/workflow"
)

// grouped has an execution enter a group.
func grouped(name string, limit int, onConflict ...workflow.OnConflict) func(*queue.Request) {
	g := &workflow.Group{Name: name, Limit: limit, OnConflict: workflow.ConflictQueue}
	if len(onConflict) > 0 {
		g.OnConflict = onConflict[0]
	}
	return func(r *queue.Request) { r.Group = g }
}

// sibling makes another workflow of the same organization, and returns what asks for its executions.
func (b *testBundle) sibling() func(*queue.Request) {
	b.t.Helper()
	_, id := pgtest.Workflow(b.t, b.pool)
	pgtest.Exec(b.t, b.pool, "UPDATE workflows SET organization_id = $1 WHERE id = $2", b.org, id)
	return func(r *queue.Request) { r.WorkflowID = id }
}

// group returns the executions the executions that have a slot in the group, oldest first, and those that wait for one and are not paused, in order.
func (b *testBundle) group(name string) (held, waiting []uuid.UUID) {
	b.t.Helper()
	id := queue.GroupID(b.org, name)
	return b.ids("SELECT execution_id FROM concurrency_slots WHERE group_id = $1 ORDER BY execution_id", id),
		b.ids("SELECT execution_id FROM concurrency_waiters WHERE group_id = $1 AND NOT paused ORDER BY run_order, execution_id", id)
}

func (b *testBundle) ids(sql string, args ...any) []uuid.UUID {
	b.t.Helper()
	rows, err := b.pool.Query(b.t.Context(), sql, args...)
	if err != nil {
		b.t.Fatal(err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		b.t.Fatal(err)
	}
	return ids
}

// wantGroup fails unless exactly these have a slot and wait, in this order.
func (b *testBundle) wantGroup(name string, held, waiting []uuid.UUID) {
	b.t.Helper()
	gotHeld, gotWaiting := b.group(name)
	slices.SortFunc(held, func(x, y uuid.UUID) int { return slices.Compare(x[:], y[:]) })
	if !slices.Equal(held, gotHeld) || !slices.Equal(waiting, gotWaiting) {
		b.t.Errorf("group %s: %v have a slot and %v wait, want %v and %v", name, gotHeld, gotWaiting, held, waiting)
	}
	b.check()
}

func (b *testBundle) cancel(id uuid.UUID) {
	b.t.Helper()
	if err := b.queue.Cancel(b.t.Context(), b.org, id, "ann"); err != nil {
		b.t.Fatal(err)
	}
}

type list = []uuid.UUID

func TestGroup(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	worker := b.join()
	first := b.enqueue(grouped("a", 1))
	second, third := b.enqueue(grouped("a", 1)), b.enqueue(grouped("a", 1))
	b.wantGroup("a", list{first}, list{second, third})
	// Another group, no group, and the same name elsewhere are not in its way; another workflow is.
	apart := b.enqueue(grouped("b", 1))
	b.wantGroup("b", list{apart}, list{})
	shared := b.enqueue(grouped("a", 1), b.sibling(), priority(1))
	org, foreign := pgtest.Workflow(t, b.pool)
	elsewhere := b.enqueue(grouped("a", 1), func(r *queue.Request) { r.OrganizationID, r.WorkflowID = org, foreign })
	free := b.enqueue()
	b.wantGroup("a", list{first}, list{shared, second, third})

	claimed := b.claim(worker, 10)
	if len(claimed) != 4 {
		t.Fatalf("claimed %+v", claimed)
	}
	for _, c := range claimed {
		if !slices.Contains(list{first, apart, elsewhere, free}, c.ID) {
			t.Errorf("claimed %s, which waits for its group", c.ID)
		}
	}
	block, ok, err := b.executions.Blocked(t.Context(), second)
	if err != nil || !ok || block.Group != "a" || block.Limit != 1 || block.Held != 1 || block.Ahead != 1 || !slices.Equal(block.Holders, list{first}) {
		t.Errorf("it waits for %+v, %t, %v", block, ok, err)
	}
	if _, ok, err := b.executions.Blocked(t.Context(), first); ok || err != nil {
		t.Errorf("what has a slot is blocked: %t, %v", ok, err)
	}
	// A slot is held whatever becomes of the worker.
	i := slices.IndexFunc(claimed, func(c queue.Claimed) bool { return c.ID == first })
	if err := b.queue.Release(t.Context(), first, claimed[i].Claim, "Test."); err != nil {
		t.Fatal(err)
	}
	b.wantGroup("a", list{first}, list{shared, second, third})
	// One that waits leaves without a trace.
	b.cancel(second)
	b.wantGroup("a", list{first}, list{shared, third})
	if x := b.get(second); x.Status != execution.Canceled {
		t.Errorf("it is %s", x.Status)
	}
	// The newest says what the limit is. A lower one takes nothing away.
	fourth := b.enqueue(grouped("a", 3), priority(-1))
	b.wantGroup("a", list{first, shared, third}, list{fourth})
	fifth := b.enqueue(grouped("a", 2), priority(-2))
	b.wantGroup("a", list{first, shared, third}, list{fourth, fifth})
	b.cancel(third)
	b.wantGroup("a", list{first, shared}, list{fourth, fifth})
	b.cancel(shared)
	b.wantGroup("a", list{first, fourth}, list{fifth})
	// The place in the queue is that which it would have had.
	order := pgtest.Get[bool](t, b.pool, `SELECT q.run_order = e.queued_at + interval '5 minutes' FROM execution_queue q JOIN executions e ON e.id = q.execution_id WHERE e.id = $1`, fourth)
	if !order {
		t.Error("it has another place in the queue")
	}
}

func TestGroupCostsNoRoundTrip(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	for _, name := range []string{"GroupEnter", "GroupAdmit", "WorkflowLockMany"} {
		before := b.statements.Count(name)
		b.enqueue()
		if n := b.statements.Count(name) - before; n != 0 {
			t.Errorf("without a group %s was sent", name)
		}
		b.enqueue(grouped("a", 1))
		if n := b.statements.Count(name) - before; n != 1 {
			t.Errorf("%s was sent %d times", name, n)
		}
	}
}

func TestGroupRejects(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	first := b.enqueue(grouped("a", 1, workflow.ConflictReject))
	r := b.request()
	grouped("a", 1, workflow.ConflictReject)(&r)
	_, err := b.queue.Enqueue(t.Context(), r)
	wantCode(t, err, queue.GroupConflict)
	for _, word := range []string{`"a"`, "room for 1", "#1", first.String()} {
		if !strings.Contains(errs.MessageOf(err, ""), word) {
			t.Errorf("%v does not say %s", err, word)
		}
	}
	// A refusal changes nothing: neither the numbers, nor the limit.
	grouped("a", 2)(&r)
	r.Group.OnConflict, r.Group.Limit = workflow.ConflictReject, 1
	if _, err := b.queue.Enqueue(t.Context(), r); !errs.Is(err, queue.GroupConflict) {
		t.Fatal(err)
	}
	if n := pgtest.Get[int](t, b.pool, "SELECT count(*) FROM executions"); n != 1 {
		t.Errorf("%d executions", n)
	}
	second := b.enqueue(grouped("a", 2, workflow.ConflictReject))
	if n := b.get(second).Number; n != 2 {
		t.Errorf("number %d", n)
	}
	third := b.enqueue(grouped("a", 2))
	// It overtakes nobody, whatever its priority.
	r = b.request()
	grouped("a", 3, workflow.ConflictReject)(&r)
	priority(10)(&r)
	_, err = b.queue.Enqueue(t.Context(), r)
	wantCode(t, err, queue.GroupConflict)
	if !strings.Contains(errs.MessageOf(err, ""), "1 waiting") {
		t.Errorf("%v does not say that somebody waits", err)
	}
	b.wantGroup("a", list{first, second}, list{third})

	// In a transaction of others, what is refused leaves the rest.
	var admitted []queue.Admitted
	err = pgx.BeginFunc(t.Context(), b.pool, func(tx pgx.Tx) (err error) {
		refused, fine := b.request(), b.request()
		grouped("a", 2, workflow.ConflictReject)(&refused)
		grouped("c", 1, workflow.ConflictReject)(&fine)
		admitted, err = queue.Admit(t.Context(), tx, queue.Admission{Requests: []queue.Request{refused, fine, fine}})
		return err
	})
	if err != nil || admitted[0].Refused == nil || admitted[0].Refused.Code != queue.GroupConflict || admitted[1].Refused != nil || admitted[2].Refused == nil {
		t.Errorf("admitted %+v, %v", admitted, err)
	}
	b.wantGroup("c", list{admitted[1].ID}, list{})
}

func TestGroupQueueDeadline(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	late := func(r *queue.Request) { r.QueueTimeout = time.Nanosecond }
	first, second := b.enqueue(grouped("a", 1), late), b.enqueue(grouped("a", 1))
	third := b.enqueue(grouped("a", 1), late)
	b.wantGroup("a", list{first}, list{second, third})
	if n, err := b.queue.PassDeadlines(t.Context()); err != nil || n != 2 {
		t.Fatalf("%d deadlines, %v", n, err)
	}
	b.wantGroup("a", list{second}, list{})
	for id, words := range map[uuid.UUID]string{first: "No worker took", third: "group had no room"} {
		if x := b.get(id); x.Status != execution.TimedOut || x.Failure == nil || x.Failure.Code != "queue_timeout" || !strings.Contains(x.Failure.Message, words) {
			t.Errorf("it is %s: %+v, want %q", x.Status, x.Failure, words)
		}
	}
}

// TestGroupCounts holds that blocked executions count against the workflow's limit.
func TestGroupCounts(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	b.limited(2)
	first := b.enqueue(grouped("a", 1))
	b.enqueue(grouped("a", 1))
	r := b.request()
	grouped("a", 5)(&r)
	_, err := b.queue.Enqueue(t.Context(), r)
	wantCode(t, err, queue.Full)
	if limit := pgtest.Get[int](t, b.pool, "SELECT max_running FROM concurrency_groups"); limit != 1 {
		t.Errorf("what was refused has changed the limit to %d", limit)
	}
	b.cancel(first)
	b.enqueue(grouped("a", 1))
}

// TestGroupPause: what is blocked keeps its turn and takes no slot; what has one keeps it.
func TestGroupPause(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	worker, other := b.join(), b.sibling()
	admitted, blocked := b.enqueue(grouped("a", 1)), b.enqueue(grouped("a", 1))
	later := b.enqueue(grouped("a", 1), other)
	b.pause(true)
	b.wantGroup("a", list{admitted}, list{later})
	if got := b.claim(worker, 10); len(got) != 0 {
		t.Fatalf("claimed %+v", got)
	}
	block, ok, err := b.executions.Blocked(t.Context(), blocked)
	if err != nil || !ok || block.PausedSince == nil || block.PausedBy != "ann" {
		t.Errorf("it waits for %+v, %t, %v", block, ok, err)
	}
	b.cancel(admitted)
	b.wantGroup("a", list{later}, list{})
	b.cancel(later)
	newest := b.enqueue(grouped("a", 1))
	b.wantGroup("a", list{}, list{}) // there is room, and nobody who may have it
	passing := b.enqueue(grouped("a", 1), other)
	b.wantGroup("a", list{passing}, list{})
	b.pause(false)
	b.wantGroup("a", list{passing}, list{blocked, newest})
	b.cancel(passing)
	b.wantGroup("a", list{blocked}, list{newest})
	b.pause(true)
	b.cancel(blocked)
	b.pause(false)
	b.wantGroup("a", list{newest}, list{})
	if got := b.claim(worker, 10); len(got) != 1 || got[0].ID != newest {
		t.Errorf("claimed %+v", got)
	}
}

func TestGroupCancelsRunning(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	worker := b.join()
	replacing := grouped("a", 1, workflow.ConflictCancelRunning)

	// What has not begun is gone at once.
	first := b.enqueue(replacing)
	second := b.enqueue(replacing)
	b.wantGroup("a", list{second}, list{})
	if x := b.get(first); x.Status != execution.Canceled {
		t.Errorf("the first is %s", x.Status)
	}
	by := pgtest.Get[string](t, b.pool, "SELECT data->>'by' || ' for ' || (data->>'for') FROM execution_events WHERE execution_id = $1 AND type = 'execution.canceled'", first)
	if by != `concurrency group "a" for 2` {
		t.Errorf("it was canceled by %s", by)
	}
	// What runs gets a cancel, once: another would keep it from cleaning up.
	if len(b.claim(worker, 1)) != 1 {
		t.Fatal("nothing claimed")
	}
	third := b.enqueue(replacing)
	b.wantGroup("a", list{second}, list{third})
	if r := b.row(second); !r.Canceled || r.Forced {
		t.Errorf("the second %+v", r)
	}
	for range 2 {
		if n, err := b.queue.CancelSuperseded(t.Context()); n != 0 || err != nil {
			t.Errorf("%d canceled again, %v", n, err)
		}
	}
	if r := b.row(second); r.Forced {
		t.Error("the second was forced")
	}

	// What the process that has queued it did not come to do, the control plane does; nothing newer is canceled by what is older.
	pgtest.Exec(t, b.pool, "UPDATE executions SET cancel_requested_at = NULL WHERE id = $1", second)
	newer := b.enqueue(grouped("a", 1), priority(10))
	b.wantGroup("a", list{second}, list{newer, third})
	if n, err := b.queue.CancelSuperseded(t.Context()); n != 1 || err != nil {
		t.Errorf("%d canceled, %v", n, err)
	}
	if r := b.row(second); !r.Canceled || r.Forced {
		t.Errorf("the second %+v", r)
	}
	pgtest.Exec(t, b.pool, "UPDATE executions SET status = 'queued', worker_id = NULL WHERE id = $1", second)
	pgtest.Exec(t, b.pool, "INSERT INTO execution_queue VALUES ($1, now())", second)
	b.cancel(second)
	b.wantGroup("a", list{newer}, list{third})
	if n, err := b.queue.CancelSuperseded(t.Context()); n != 0 || err != nil {
		t.Errorf("%d newer ones canceled, %v", n, err)
	}
}

// TestGroupOfAParent: a child never waits for who waits for it.
func TestGroupOfAParent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	below := func(parent uuid.UUID) func(*queue.Request) {
		return func(r *queue.Request) {
			r.Source, r.Parent = execution.FromExecution, &queue.Parent{ExecutionID: parent, NodeRunID: uuid.New()}
		}
	}
	top := b.enqueue(grouped("a", 3))
	middle := b.enqueue(grouped("b", 1), below(top))
	if parent := pgtest.Get[uuid.UUID](t, b.pool, "SELECT parent_execution_id FROM executions WHERE id = $1", middle); parent != top {
		t.Errorf("its parent is %s", parent)
	}
	for group, holder := range map[string]uuid.UUID{"a": top, "b": middle} {
		for _, onConflict := range []workflow.OnConflict{workflow.ConflictQueue, workflow.ConflictCancelRunning, workflow.ConflictReject} {
			r := b.request()
			grouped(group, 3, onConflict)(&r)
			below(middle)(&r)
			_, err := b.queue.Enqueue(t.Context(), r)
			wantCode(t, err, queue.GroupHeldByParent)
			if !strings.Contains(errs.MessageOf(err, ""), holder.String()) {
				t.Errorf("%v does not name %s", err, holder)
			}
		}
	}
	if n := pgtest.Get[int](t, b.pool, "SELECT count(*) FROM executions"); n != 2 {
		t.Errorf("%d executions", n)
	}
	free := b.enqueue(grouped("c", 1), below(middle))
	b.wantGroup("c", list{free}, list{})
	// One that is not above waits like any other.
	beside := b.enqueue(grouped("b", 1), below(top))
	b.wantGroup("b", list{middle}, list{beside})
	b.cancel(middle)
	b.wantGroup("b", list{beside}, list{})
	again := b.enqueue(grouped("b", 1), below(free))
	b.wantGroup("b", list{beside}, list{again})
}
