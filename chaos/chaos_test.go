package chaos

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"foundry/chaos/plan"
	"foundry/internal/lifecycle"
	"foundry/internal/sandbox/sandboxtest"
)

// chosen is the form that flags and the environment ask for.
func chosen(t *testing.T) form {
	t.Helper()
	name := *formFlag
	switch {
	case *longFlag:
		name = "long"
	case name == "" && sandboxtest.Required("chaos"):
		name = "short"
	}
	switch name {
	case "", "smoke":
		return form{
			name: "smoke", executions: 8, kills: 5, live: 6, workflows: 6, workers: 2, serves: 1, gap: 700 * time.Millisecond, limit: 4 * time.Minute,
			shape: plan.Shape{Nodes: 4, Duration: 2 * time.Second, Parking: true, Groups: true, Fans: true, Calls: true, Files: true},
		}
	case "short":
		return form{
			name: "short", executions: 50, kills: 30, live: 10, workflows: 20, workers: 3, serves: 2, gap: 1200 * time.Millisecond, limit: 6 * time.Minute,
			shape: plan.Shape{Nodes: 6, Duration: 4 * time.Second, Parking: true, Groups: true, Fans: true, Calls: true, Files: true},
		}
	case "long":
		return form{
			name: "long", executions: 200, kills: *killsFlag, live: 14, workflows: 60, workers: 4, serves: 2, gap: 450 * time.Millisecond, limit: 12 * time.Hour,
			shape: plan.Shape{Nodes: 7, Duration: 6 * time.Second, Parking: true, Groups: true, Fans: true, Calls: true, Files: true}, smallDisk: true,
		}
	}
	t.Fatalf("there is no form %q", name)
	return form{}
}

// TestChaos breaks things until enough was broken, lets everything come to rest, and looks what became of it.
func TestChaos(t *testing.T) {
	t.Parallel()
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64N(1 << 32)
	}
	f := chosen(t)
	t.Logf("repeat the plan with: go test ./chaos -run '^TestChaos$' -form %s -seed %d -v", f.name, seed)
	began := time.Now()
	r := newRun(t, seed, f)
	stopExplaining := r.explainBefore()
	defer stopExplaining()

	// Approvals are answered to the end, everything else only as long as things break.
	deciding, stopDeciding := context.WithCancel(t.Context())
	defer stopDeciding()
	var deciders sync.WaitGroup
	deciders.Go(func() { r.decide(deciding) })
	r.storm(t.Context())
	r.settle()
	r.rest(t.Context())
	stopDeciding()
	deciders.Wait()
	r.stop()
	r.judge(t.Context())

	t.Log("\n" + r.summary(time.Since(began)))
	if all, busy := r.count.kills(); all < f.kills || 2*busy < all {
		t.Errorf("%d kills, %d of them while commands ran; %d were wanted, half of them so", all, busy, f.kills)
	}
	if n := r.queued; n < f.executions {
		t.Errorf("%d executions; %d were wanted", n, f.executions)
	}
}

// storm queues and strikes until there was enough of both, and half of the kills have hit while commands ran, or the form's limit has passed.
func (r *run) storm(ctx context.Context) {
	ctx, stop := context.WithTimeout(ctx, r.form.limit)
	defer stop()
	var all sync.WaitGroup
	all.Go(func() { r.enqueue(ctx) })
	all.Go(func() { r.strike(ctx) })
	told := time.Now()
	for lifecycle.Sleep(ctx, 200*time.Millisecond) {
		kills, busy := r.count.kills()
		r.mu.Lock()
		executions := r.queued
		r.mu.Unlock()
		if kills >= r.form.kills && 2*busy >= kills && executions >= r.form.executions {
			break
		}
		if time.Since(told) > time.Minute {
			told = time.Now()
			r.t.Logf("%d executions, %d kills, %d while commands ran", executions, kills, busy)
		}
	}
	stop()
	all.Wait()
	r.clients.Wait()
}
