package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"foundry/api/client"
	"foundry/internal/lifecycle"
	"foundry/internal/pgtest"
	"foundry/internal/postgres"
)

// TestControlPlanesLeaveInTurn has two control planes leave one after the other, while one client follows an execution, and another
// starts executions and takes a refusal with Retry-After, or no answer, for "ask the other".
func TestControlPlanesLeaveInTurn(t *testing.T) {
	t.Parallel()
	here := start(t)
	there := here.another()
	here.push(ticker, nil)
	here.push(brief, nil)
	id := here.queue("ticker", nil)
	f, p := roam(here, there, id), post(here, there)

	pair := [2]*installation{here, there}
	for round := range 3 {
		leaves := pair[round%2]
		f.reads(t, round+1)
		p.accepts(t, 5)
		before := p.refusals()
		leaves.serve.stop(syscall.SIGTERM)
		f.reads(t, round+2)
		p.accepts(t, 5)
		if code := leaves.serve.code(); code != 0 {
			t.Errorf("round %d: exit code %d", round, code)
		}
		left := departureOf(t, leaves.serve)
		t.Logf("round %d: %+v", round, left)
		if left.NoticeMs < 1_000 {
			t.Errorf("round %d: it gave notice for %d ms", round, left.NoticeMs)
		}
		if left.Cut != 0 || left.Streams != 1 || left.Requests < 1 || left.Refused != p.refusals()-before {
			t.Errorf("round %d: it has left as %+v, and the client was refused %d times", round, left, p.refusals()-before)
		}
		leaves.startServe()
	}
	p.stop()
	if status := here.call(http.MethodPost, "/executions/"+id+"/cancel", nil, nil); status/100 != 2 {
		t.Fatalf("cancel: %d", status)
	}
	f.check(t, "the one that roams")
	p.check(t)
	here.sound()
}

// another is the same installation behind a second control plane.
func (i *installation) another() *installation {
	i.t.Helper()
	j := *i
	j.port = pgtest.FreePort(i.t)
	j.url = "http://127.0.0.1:" + strconv.Itoa(j.port)
	j.startServe()
	return &j
}

// departure is the record of a control plane that has left.
type departure struct {
	Message                         string
	Requests, Refused, Streams, Cut int
	UnlockMs                        int `json:"unlock_ms"`
	NoticeMs                        int `json:"notice_ms"`
	FinishMs                        int `json:"finish_ms"`
	ServicesMs                      int `json:"services_ms"`
	PoolMs                          int `json:"pool_ms"`
	TotalMs                         int `json:"total_ms"`
}

// departureOf reads the one record of a control plane that has ended.
func departureOf(t *testing.T, p *proc) (d departure) {
	t.Helper()
	found := 0
	for line := range strings.Lines(p.out.String()) {
		if strings.Contains(line, `"control plane has left"`) {
			found++
			d = decode[departure](t, []byte(line))
		}
	}
	if found != 1 {
		t.Fatalf("%d records of a departure", found)
	}
	return d
}

// roam follows an execution at one control plane and, whenever a connection ends, at the other.
func roam(here, there *installation, id string) *follower {
	ctx, stop := context.WithCancel(here.t.Context())
	f := &follower{i: here, path: "/executions/" + id + "/events"}
	f.stop = func() { stop(); f.wg.Wait() }
	here.t.Cleanup(f.stop)
	f.wg.Go(func() {
		for !f.connect(ctx) && lifecycle.Sleep(ctx, retry) {
			if f.i == here {
				f.i = there
			} else {
				f.i = here
			}
		}
	})
	return f
}

// reads waits until the follower is at a connection, its first being 1, and has read from it.
func (f *follower) reads(t *testing.T, connection int) {
	t.Helper()
	var at int64
	eventually(t, func() error {
		last := f.last()
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.connections != connection {
			return fmt.Errorf("the stream is at connection %d and not at %d", f.connections, connection)
		}
		if at == 0 {
			at = max(last, 1)
		}
		if last <= at {
			return fmt.Errorf("nothing comes behind event %d", at)
		}
		return nil
	})
}

// poster starts one execution after the other, each with a key of its own until it is accepted.
type poster struct {
	at, other *installation
	stop      func()
	wg        sync.WaitGroup

	mu       sync.Mutex
	accepted map[string]string // executions by keys
	refused  int
}

func post(here, there *installation) *poster {
	ctx, stop := context.WithCancel(here.t.Context())
	p := &poster{at: here, other: there, accepted: map[string]string{}}
	p.stop = func() { stop(); p.wg.Wait() }
	here.t.Cleanup(p.stop)
	p.wg.Go(func() {
		for key := uuid.NewString(); lifecycle.Sleep(ctx, 50*time.Millisecond); {
			if p.once(context.WithoutCancel(ctx), key) { // what was sent is read: else nobody knows what was accepted
				key = uuid.NewString()
			} else {
				p.at, p.other = p.other, p.at
			}
		}
	})
	return p
}

// once asks for an execution and reports whether it was accepted. Otherwise it was refused, or not answered, in a way for which the
// other control plane is to be asked.
func (p *poster) once(ctx context.Context, key string) bool {
	t := p.at.t
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.at.url+"/api/v1/workflows/brief/executions", strings.NewReader("{}"))
	if err != nil {
		t.Error(err)
		return false
	}
	req.Header.Set("Authorization", "Bearer "+p.at.token)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false // nothing listens there
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Errorf("an answer broke off: %v", err)
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if resp.StatusCode == http.StatusAccepted {
		var queued client.ExecutionQueued
		if err := json.Unmarshal(text, &queued); err != nil {
			t.Error(err)
		}
		p.accepted[key] = queued.ID.String()
		return true
	}
	var problem client.Problem
	if err := json.Unmarshal(text, &problem); err != nil || resp.StatusCode != http.StatusServiceUnavailable || problem.Code != "draining" ||
		resp.Header.Get("Retry-After") != "1" || !resp.Close {
		t.Errorf("a new execution got %d %v: %s", resp.StatusCode, resp.Header, text)
	}
	p.refused++
	return false
}

func (p *poster) refusals() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.refused
}

// accepts waits until n more executions are accepted.
func (p *poster) accepts(t *testing.T, n int) {
	t.Helper()
	count := func() int {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.accepted)
	}
	before := count()
	eventually(t, func() error {
		if got := count() - before; got < n {
			return fmt.Errorf("%d executions were accepted, and %d should be", got, n)
		}
		return nil
	})
}

// check holds that each key has led to one execution, which comes to its end.
func (p *poster) check(t *testing.T) {
	t.Helper()
	ids := map[string]bool{}
	for _, id := range p.accepted {
		ids[id] = true
	}
	// The database is asked: there may be more of them than the API answers questions in a while.
	pool := pgtest.Open(t, p.at.database, postgres.Options{MaxConns: 1})
	const of = " FROM executions e JOIN workflows w ON w.id = e.workflow_id WHERE w.slug = 'brief'"
	eventually(t, func() error {
		if n := pgtest.Get[int](t, pool, "SELECT count(*)"+of+" AND e.finished_at IS NULL"); n > 0 {
			return fmt.Errorf("%d executions have not ended", n)
		}
		return nil
	})
	if n := pgtest.Get[int](t, pool, "SELECT count(*)"+of+" AND e.status <> 'completed'"); n > 0 {
		t.Errorf("%d executions have not completed", n)
	}
	made := pgtest.Get[int](t, pool, "SELECT count(*)"+of)
	known := pgtest.Get[int](t, pool, "SELECT count(*)"+of+" AND e.id::text = ANY ($1)", slices.Collect(maps.Values(p.accepted)))
	if made != len(ids) || known != made || len(ids) != len(p.accepted) {
		t.Errorf("%d keys were accepted with %d ids, and %d executions exist, %d of them known", len(p.accepted), len(ids), made, known)
	}
	t.Logf("%d executions, %d refusals", made, p.refused)
}
