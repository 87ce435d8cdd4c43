package queue_test

import (
	"slices"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"foundry/internal/errs"
	"foundry/internal/execution"
	"foundry/internal/pgtest"
	"foundry/internal/queue"
)

func TestEnqueue(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()

	t.Run("is one transaction with event 1", func(t *testing.T) {
		begins, commits := b.statements.Count("begin"), b.statements.Count("commit")
		id := b.enqueue(priority(3))
		if n, m := b.statements.Count("begin")-begins, b.statements.Count("commit")-commits; n != 1 || m != 1 {
			t.Errorf("%d transactions began and %d committed", n, m)
		}
		transactions := pgtest.Get[int](t, b.pool, `SELECT count(DISTINCT xmin::text) FROM (
			SELECT xmin FROM executions WHERE id = $1
			UNION ALL SELECT xmin FROM execution_data WHERE execution_id = $1
			UNION ALL SELECT xmin FROM execution_queue WHERE execution_id = $1
			UNION ALL SELECT xmin FROM execution_events WHERE execution_id = $1
			UNION ALL SELECT xmin FROM workflows WHERE id = $2) AS written`, id, b.workflow)
		if transactions != 1 {
			t.Errorf("its rows were written by %d transactions", transactions)
		}
		type fact struct {
			Seq         int64
			Type        string
			Number, Pri int64
			Source      string
		}
		var got fact
		err := b.pool.QueryRow(t.Context(), `SELECT seq, type, (data->>'number')::bigint, (data->>'priority')::bigint, data->>'source'
			FROM execution_events WHERE execution_id = $1`, id).Scan(&got.Seq, &got.Type, &got.Number, &got.Pri, &got.Source)
		if want := (fact{1, "execution.queued", 1, 3, "api"}); err != nil || got != want {
			t.Errorf("event %+v, %v; want %+v", got, err, want)
		}
		x := b.get(id)
		if x.Status != execution.Queued || x.LastSeq != 1 || x.Number != 1 || string(x.Inputs) != `{"n": 1}` || x.ClaimedAt != nil {
			t.Errorf("execution %+v", x)
		}
	})

	t.Run("refuses what is not there and leaves no gap", func(t *testing.T) {
		for name, change := range map[string]func(*queue.Request){
			"workflow":                        func(r *queue.Request) { r.WorkflowID = uuid.New() },
			"workflow of other organizations": func(r *queue.Request) { r.OrganizationID = uuid.New() },
		} {
			r := b.request()
			change(&r)
			if _, err := b.queue.Enqueue(t.Context(), r); !errs.Is(err, errs.NotFound) {
				t.Errorf("%s: %v", name, err)
			}
		}
		r := b.request()
		r.Version = 7
		if _, err := b.queue.Enqueue(t.Context(), r); err == nil {
			t.Error("an unknown version was accepted")
		}
		if n := b.get(b.enqueue()).Number; n != 2 {
			t.Errorf("the next number is %d", n)
		}
	})

	t.Run("numbers without gaps under concurrency", func(t *testing.T) {
		const callers = 50
		numbers := make(chan int64, callers)
		var group sync.WaitGroup
		for range callers {
			group.Go(func() {
				q, err := b.queue.Enqueue(t.Context(), b.request())
				if err != nil {
					t.Error(err)
				}
				numbers <- q.Number
			})
		}
		group.Wait()
		close(numbers)
		var got []int64
		for n := range numbers {
			got = append(got, n)
		}
		slices.Sort(got)
		for i, n := range got {
			if n != int64(i)+3 {
				t.Fatalf("numbers %v, want 3 to %d", got, callers+2)
			}
		}
	})
}

// TestAdmit admits in somebody else's transaction, in which what is refused leaves nothing.
func TestAdmit(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	_, other := pgtest.Workflow(t, b.pool)
	own, none, foreign := b.request(), b.request(), b.request()
	own.ID = execution.NewID()
	none.WorkflowID, foreign.WorkflowID = uuid.New(), other
	var admitted []queue.Admitted
	err := pgx.BeginFunc(t.Context(), b.pool, func(tx pgx.Tx) (err error) {
		admitted, err = queue.Admit(t.Context(), tx, queue.Admission{
			Requests: []queue.Request{none, own, foreign, b.request(), b.request()}, QueuedMax: 2,
		})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if admitted[1].ID != own.ID || admitted[1].Number != 1 || admitted[3].Number != 2 || admitted[3].QueuedAt.IsZero() {
		t.Errorf("admitted %+v and %+v", admitted[1], admitted[3])
	}
	for i, code := range map[int]errs.Code{0: errs.NotFound, 2: errs.NotFound, 4: queue.Full} {
		if refused := admitted[i].Refused; refused == nil || refused.Code != code || admitted[i].ID != uuid.Nil {
			t.Errorf("request %d: %+v, want it refused: %s", i, admitted[i], code)
		}
	}
	if n := pgtest.Get[int](t, b.pool, "SELECT count(*) FROM executions"); n != 2 {
		t.Errorf("%d executions, want 2", n)
	}
}
