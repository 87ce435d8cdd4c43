package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"foundry/chaos/check"
	"foundry/chaos/plan"
	"foundry/internal/lifecycle"
)

// enqueue keeps executions coming until ctx ends and there were enough, and returns how many.
func (r *run) enqueue(ctx context.Context) int {
	random := rand.New(rand.NewPCG(r.seed, 1))
	n := 0
	for ctx.Err() == nil {
		live, err := get[int](ctx, r.cluster, "SELECT count(*) FROM executions WHERE finished_at IS NULL AND parent_execution_id IS NULL")
		if err == nil {
			for ; live < r.form.live && ctx.Err() == nil; live++ {
				r.queueOne(ctx, n, random)
				n++
			}
		}
		lifecycle.Sleep(ctx, 100*time.Millisecond)
	}
	return n
}

// queueOne queues the n-th execution. Its request is repeated until it is answered, under one idempotency key; so it is
// one execution, however often it was asked for, unless its group has no room.
func (r *run) queueOne(ctx context.Context, n int, random *rand.Rand) {
	w := r.next(ctx, random.IntN(len(r.workflows)))
	cancelAfter, cancels, odds := time.Duration(0), 0, 12
	if w.Depth > 0 {
		odds = 4 // it is to pass down
	}
	if random.IntN(odds) == 0 {
		cancelAfter, cancels = time.Duration(random.Int64N(int64(6*time.Second))), 1+random.IntN(2)
	}
	var queued struct {
		ID uuid.UUID `json:"id"`
	}
	// A request that was made once must be answered, or nobody knows what it has done.
	ask, stop := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
	defer stop()
	header := map[string]string{"Idempotency-Key": fmt.Sprintf("%d-%d", r.seed, n)}
	status, err := r.client.insist(ask, http.MethodPost, "/workflows/"+w.Slug+"/executions", header, map[string]any{}, &queued)
	if err == nil && status == http.StatusConflict && w.Group != nil && w.Group.Conflict == plan.Refuse {
		r.mu.Lock()
		r.count.refusals++
		r.mu.Unlock()
		return
	}
	if err != nil || status != http.StatusAccepted {
		r.t.Errorf("queuing an execution of %s: %d, %v", w.Slug, status, err)
		return
	}
	r.mu.Lock()
	r.queued++
	r.accepted[queued.ID] = &check.Accepted{ID: queued.ID, Workflow: w.Slug, Decided: map[string]bool{}}
	r.mu.Unlock()
	if cancels > 0 {
		r.clients.Go(func() { r.cancel(ctx, queued.ID, cancelAfter, cancels) })
	}
}

// crowded is how many executions may wait for one group, about: the end of a run is not to be a long row of executions that follow one another.
const crowded = 3

// next is the n-th workflow, or the first behind it whose group is not crowded.
func (r *run) next(ctx context.Context, n int) *plan.Workflow {
	const sql = "SELECT count(*) FROM executions WHERE concurrency_group = $1 AND finished_at IS NULL"
	for i := range r.workflows {
		w := r.workflows[(n+i)%len(r.workflows)]
		if w.Group == nil {
			return w
		}
		if inside, err := get[int](ctx, r.cluster, sql, w.Group.Name); err == nil && inside < w.Group.Limit+crowded {
			return w
		}
	}
	return r.workflows[n]
}

// cancel asks for the end of an execution, once or twice.
func (r *run) cancel(ctx context.Context, id uuid.UUID, after time.Duration, times int) {
	for range times {
		if !lifecycle.Sleep(ctx, after) {
			return
		}
		r.mu.Lock()
		r.accepted[id].Asked = true
		r.mu.Unlock()
		status, err := r.client.insist(ctx, http.MethodPost, "/executions/"+id.String()+"/cancel", nil, nil, nil)
		switch {
		case status/100 == 2:
			r.mu.Lock()
			r.accepted[id].Canceled = true
			r.count.cancels++
			r.mu.Unlock()
		case status == http.StatusConflict || ctx.Err() != nil: // it has ended
		default:
			r.t.Errorf("canceling %s: %d, %v", id, status, err)
		}
	}
}

// decide answers approvals until ctx ends.
func (r *run) decide(ctx context.Context) {
	random := rand.New(rand.NewPCG(r.seed, 2))
	for lifecycle.Sleep(ctx, 200*time.Millisecond) {
		asked, err := r.prompts(ctx)
		if err != nil {
			continue // the database is away
		}
		for _, p := range asked {
			accepted := r.known(p)
			if accepted == nil || random.IntN(3) == 0 {
				continue
			}
			r.answer(ctx, p, r.workflow(accepted.Workflow).Node(p.node), random.IntN(4) == 0)
		}
	}
}

// known is what was told about the execution of a prompt: one that a client was promised, or one that the node of another runs.
func (r *run) known(p prompt) *check.Accepted {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.accepted[p.id] == nil && p.child {
		r.accepted[p.id] = &check.Accepted{ID: p.id, Workflow: p.workflow, Child: true, Decided: map[string]bool{}}
	}
	return r.accepted[p.id]
}

type prompt struct {
	id       uuid.UUID
	node     string
	workflow string
	child    bool // a node of another execution runs it
}

// prompts are the approvals that wait for an answer.
func (r *run) prompts(ctx context.Context) ([]prompt, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	rows, err := r.cluster.pool.Query(ctx, `
SELECT n.execution_id, n.node_key, w.slug, e.parent_execution_id IS NOT NULL
FROM node_runs n JOIN executions e ON e.id = n.execution_id JOIN workflows w ON w.id = e.workflow_id
WHERE n.status = 'waiting' AND n.prompt IS NOT NULL ORDER BY n.started_at`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (p prompt, err error) {
		err = row.Scan(&p.id, &p.node, &p.workflow, &p.child)
		return p, err
	})
}

// answer gives the answer that is planned, and then perhaps the other one, which must be refused.
func (r *run) answer(ctx context.Context, p prompt, node *plan.Node, again bool) {
	word := func(approve bool) string {
		if approve {
			return "approve"
		}
		return "reject"
	}
	path := "/executions/" + p.id.String() + "/nodes/" + p.node + "/"
	status, err := r.client.call(ctx, http.MethodPost, path+word(node.Approve), nil, map[string]string{"comment": "chaos"}, nil)
	switch {
	case status/100 == 2:
		r.mu.Lock()
		r.accepted[p.id].Decided[p.node] = node.Approve
		r.count.decisions++
		r.mu.Unlock()
	case err != nil && status/100 == 4:
		r.t.Errorf("answering %s of %s: %v", p.node, p.id, err)
	default:
		return // refused, or no answer: it is asked again if it still waits
	}
	if !again {
		return
	}
	if status, err := r.client.call(ctx, http.MethodPost, path+word(!node.Approve), nil, map[string]string{}, nil); status/100 == 2 {
		r.t.Error(errors.Join(fmt.Errorf("%s of %s took two different answers", p.node, p.id), err))
	}
}

func (r *run) workflow(slug string) *plan.Workflow {
	for _, w := range r.workflows {
		if w.Slug == slug {
			return w
		}
	}
	return nil
}
