package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"foundry/internal/lifecycle"
)

// What processes do to themselves. Commits and calls are made often, so the odds of each are small.
const (
	workerFailpoints = "journal.*.before=kill:0.0004;journal.*.after=kill:0.0004;queue.*=kill:0.0004;engine.*=kill:0.0004;" +
		"provider.*=kill:0.004;shim.start.*=kill:0.006;shim.tail.*=kill:0.0004;shim.*=kill:0.001;sandbox.*=kill:0.001;" +
		"journal.*=fail:0.002;queue.*=fail:0.001;provider.*=fail:0.03;shim.*=fail:0.01;sandbox.*=fail:0.01;" +
		"provider.*=twice:0.1;shim.*=twice:0.1;sandbox.*=twice:0.1;" +
		"*=delay:50ms:0.01;*=delay:1500ms:0.0005"
	serveFailpoints = "queue.*=kill:0.001;queue.*.before=fail:0.002;*=delay:50ms:0.01"
)

// kind is how something is broken.
type kind string

// The kinds of blows. Those before drainWorker are kills.
const (
	killWorker    kind = "SIGKILL of a worker"
	killServe     kind = "SIGKILL of a control plane"
	killShim      kind = "SIGKILL of a command's supervisor"
	crashPostgres kind = "immediate shutdown of Postgres"
	killSelf      kind = "SIGKILL at a failpoint" // it is never dealt, it happens
	drainWorker   kind = "SIGTERM of a worker"
	drainServe    kind = "SIGTERM of a control plane"
	freezeWorker  kind = "SIGSTOP of a worker beyond its lease"
	cutQueries    kind = "cut of database connections"
	cutListeners  kind = "cut of LISTEN connections"
	fillDisk      kind = "disk full"
)

func (k kind) kills() bool {
	return k == killWorker || k == killServe || k == killShim || k == crashPostgres || k == killSelf
}

// blow is one step of the plan: after a pause, something is done to a victim that pick chooses.
type blow struct {
	pause time.Duration
	kind  kind
	pick  float64 // 0 up to 1
}

// blows is the endless plan of a seed.
func blows(seed uint64, gap time.Duration) func() blow {
	random := rand.New(rand.NewPCG(seed, 3))
	weights := []struct {
		kind   kind
		weight int
	}{
		{killWorker, 34},
		{killShim, 26},
		{killServe, 5},
		{crashPostgres, 3},
		{drainWorker, 9},
		{drainServe, 2},
		{freezeWorker, 12},
		{cutQueries, 8},
		{cutListeners, 5},
		{fillDisk, 2},
	}
	total := 0
	for _, w := range weights {
		total += w.weight
	}
	return func() blow {
		b := blow{pause: time.Duration(random.ExpFloat64() * float64(gap)), pick: random.Float64()}
		at := random.IntN(total)
		for _, w := range weights {
			if at -= w.weight; at < 0 {
				b.kind = w.kind
				break
			}
		}
		b.pause = min(b.pause, 4*gap)
		return b
	}
}

// strike deals blows until ctx ends. Once there were enough kills it takes its time, and ever more of it, so that what is left comes to its end however slow
// the machine is.
func (r *run) strike(ctx context.Context) {
	for next := blows(r.seed, r.form.gap); ; {
		b := next()
		kills, _ := r.count.kills()
		b.pause <<= min(kills/r.form.kills, 4)
		if !lifecycle.Sleep(ctx, b.pause) {
			return
		}
		r.deal(ctx, b)
	}
}

// deal deals one blow. One that finds no victim is no blow.
func (r *run) deal(ctx context.Context, b blow) {
	busy, err := r.busy(ctx)
	if err != nil {
		return // Postgres is away: enough is broken
	}
	all := 0
	for _, n := range busy {
		all += n
	}
	switch b.kind {
	case killWorker, drainWorker, freezeWorker:
		if p := r.victim(b.pick, busy); p != nil {
			r.strikeAt(ctx, p, b.kind, busy[p.pid()] > 0)
		}
	case killServe, drainServe:
		r.strikeAt(ctx, r.serves[int(b.pick*float64(len(r.serves)))], b.kind, all > 0)
	case killShim:
		pids := r.supervisors()
		if len(pids) == 0 {
			return
		}
		if syscall.Kill(pids[int(b.pick*float64(len(pids)))], syscall.SIGKILL) == nil {
			r.count.dealt(b.kind, true)
		}
	case crashPostgres:
		if r.count.worth(b.kind, all > 0) && r.crash() == nil {
			r.count.dealt(b.kind, all > 0)
		}
	case cutQueries:
		r.cut(ctx, b.kind, "foundry worker%", 1+int(b.pick*6), all > 0)
	case cutListeners:
		r.cut(ctx, b.kind, "foundry%listen", 10, all > 0)
	case fillDisk:
		r.fill(ctx, b)
	case killSelf:
	}
}

// strikeAt deals a blow to a process, if it is worth it and the process can be hit.
func (r *run) strikeAt(ctx context.Context, p *process, k kind, busy bool) {
	if r.count.worth(k, busy) && r.hit(ctx, p, k) {
		r.count.dealt(k, busy)
	}
}

// hit does to a process what the kind says, and reports whether it could.
func (r *run) hit(ctx context.Context, p *process, k kind) bool {
	switch k {
	case killWorker, killServe:
		return p.strike(syscall.SIGKILL) != nil
	case drainWorker, drainServe:
		gone := p.strike(syscall.SIGTERM)
		if gone == nil {
			return false
		}
		began := time.Now()
		r.clients.Go(func() {
			select {
			case <-gone:
				r.count.drained(time.Since(began))
			case <-time.After(endLimit):
				r.t.Errorf("%s has not ended %s after SIGTERM", p.name, endLimit)
				p.strike(syscall.SIGKILL)
			}
		})
		return true
	case freezeWorker:
		if !p.signal(syscall.SIGSTOP) {
			return false
		}
		r.clients.Go(func() {
			lifecycle.Sleep(ctx, 2*lease+lease/2) // it thaws at once when the storm ends
			p.signal(syscall.SIGCONT)
		})
		return true
	case killShim, crashPostgres, killSelf, cutQueries, cutListeners, fillDisk:
	}
	return false
}

func (r *run) crash() error {
	r.disturb()
	return r.cluster.crash()
}

// disturb notes that the database is being disturbed: a process that starts just now may fail to, and says so.
func (r *run) disturb() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.disturbed = time.Now()
}

// away reports whether the database was disturbed so lately that a process may have ended by that: Postgres has to recover, and who waits for an answer
// of it has to give up, which takes its time on a slow machine.
func (r *run) away() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Since(r.disturbed) < time.Minute
}

func (r *run) cut(ctx context.Context, k kind, pattern string, most int, busy bool) {
	r.disturb()
	if n, err := r.cluster.cut(ctx, pattern, most); err == nil && n > 0 {
		r.count.dealt(k, busy)
	}
}

// busy is how many node runs are running under the eyes of each worker, by its pid.
func (r *run) busy(ctx context.Context) (map[int]int, error) {
	const sql = `
SELECT w.pid, count(*) FROM workers w JOIN executions e ON e.worker_id = w.id JOIN node_runs n ON n.execution_id = e.id AND n.status = 'running'
WHERE w.state <> 'gone' GROUP BY w.pid`
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	rows, err := r.cluster.pool.Query(ctx, sql)
	if err != nil {
		return nil, err
	}
	busy := map[int]int{}
	var pid, n int
	_, err = pgx.ForEachRow(rows, []any{&pid, &n}, func() error { busy[pid] = n; return nil })
	return busy, err
}

// victim picks a worker that is not frozen: one that has commands running, if there is one.
func (r *run) victim(pick float64, busy map[int]int) *process {
	var idle, working []*process
	for _, p := range r.workers {
		switch pid := p.pid(); {
		case pid == 0 || p.isFrozen():
		case busy[pid] > 0:
			working = append(working, p)
		default:
			idle = append(idle, p)
		}
	}
	if len(working) == 0 {
		working = idle
	}
	if len(working) == 0 {
		return nil
	}
	return working[int(pick*float64(len(working)))]
}

// supervisors are the processes that look after commands of this run.
func (r *run) supervisors() []int {
	var pids []int
	for _, p := range processesOf(r.dir) {
		if slices.Contains(p.argv, "supervise") {
			pids = append(pids, p.pid)
		}
	}
	return pids
}

// osProcess is a process of the operating system.
type osProcess struct {
	pid  int
	argv []string
}

// processesOf are those that have the text in their arguments or in their environment.
func processesOf(text string) []osProcess {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var found []osProcess
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		argv, _ := os.ReadFile(filepath.Join("/proc", entry.Name(), "cmdline"))    // empty for one that has just ended
		environ, _ := os.ReadFile(filepath.Join("/proc", entry.Name(), "environ")) // and for one that is not ours
		if strings.Contains(string(argv)+string(environ), text) {
			found = append(found, osProcess{pid, strings.Split(strings.TrimRight(string(argv), "\x00"), "\x00")})
		}
	}
	return found
}

// String is for people.
func (p osProcess) String() string { return fmt.Sprintf("%d %s", p.pid, strings.Join(p.argv, " ")) }
