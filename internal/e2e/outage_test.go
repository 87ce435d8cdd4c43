package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"foundry/api/client"
	"foundry/internal/sandbox/sandboxtest"
)

// steady prints a line every 100 ms, whoever is there to see it.
const steady = `name: steady
nodes:
  lines:
    run: |
      n=0
      until [ -e go ]; do
        n=$((n + 1))
        echo "line $n"
        sleep 0.1
      done
      echo "last $n"
`

const brief = `name: brief
nodes:
  only: { set: { done: true } }
`

// outageOf is how long Postgres is away: as long as issue 3 wants where FOUNDRY_REQUIRE lists "outage", and else so short that the
// tests stay quick.
func outageOf() time.Duration {
	if sandboxtest.Required("outage") {
		return 20 * time.Second
	}
	return 3 * time.Second
}

// TestPostgresGoesAwayAndComesBack stops the database under a server and a worker that are busy.
func TestPostgresGoesAwayAndComesBack(t *testing.T) {
	t.Parallel()
	database := newCluster(t)
	i, workerPort := startOn(t, database.url, nil)
	worker := "http://127.0.0.1:" + strconv.Itoa(workerPort)
	i.push(steady, nil)
	i.push(brief, nil)
	id := i.queue("steady", nil)
	sandbox := i.sandboxOnce(id)
	t.Cleanup(func() { // whatever happens, it must not run for ever
		if t.Failed() && len(sandboxProcesses(t, sandbox)) > 0 {
			openGate(t, i.state(), sandbox)
		}
	})
	whole := i.follow(id, 0)
	torn := i.follow(id, 500*time.Millisecond)
	summaries := i.followSummaries()
	visits := i.visit(id)
	whole.waitFor(t, "line 10\n")
	torn.waitFor(t, "line 1\n")
	eventually(t, func() error { return summaries.has("ready") }) // one that opens later is not told of what was before
	visits.succeeds(t)

	database.stop()
	over := time.After(outageOf())
	i.tells(http.StatusServiceUnavailable, i.url, worker)
	visits.refuses(t)
	<-over
	database.start()
	i.tells(http.StatusOK, i.url, worker)
	reached := strings.Count(whole.text(), "\n")
	whole.waitFor(t, fmt.Sprintf("line %d\n", reached+10))
	eventually(t, func() error { return summaries.has("reset") })
	visits.succeeds(t)
	openGate(t, i.state(), sandbox)

	if e := i.ended(id); e.Status != client.ExecutionStatusCompleted {
		t.Errorf("the execution is %s: %+v", e.Status, e.Error)
	}
	for name, f := range map[string]*follower{"one connection": whole, "many connections": torn} {
		f.check(t, name)
	}
	i.checkSteady(id, whole)
	visits.check(t, i)
	summaries.stop()
}

// state is where the worker keeps its sandboxes.
func (i *installation) state() string { return i.dir + "/state" }

// sandboxOnce waits for the execution's sandbox.
func (i *installation) sandboxOnce(id string) (sandbox string) {
	i.t.Helper()
	eventually(i.t, func() error {
		for _, n := range i.nodes(id) {
			if n.SandboxID != nil {
				sandbox = n.SandboxID.String()
				return nil
			}
		}
		return fmt.Errorf("execution %s has no sandbox", id)
	})
	return sandbox
}

// checkSteady checks the log of steady, as it is stored and as it was streamed: every line once, by one attempt.
func (i *installation) checkSteady(id string, f *follower) {
	t := i.t
	t.Helper()
	log := string(i.logs(id, "lines"))
	var want strings.Builder
	count := strings.Count(log, "\n") - 1
	for n := range count {
		fmt.Fprintf(&want, "line %d\n", n+1)
	}
	fmt.Fprintf(&want, "last %d\n", count)
	same(t, "the stored log", []byte(log), []byte(want.String()))
	same(t, "the streamed log", []byte(f.text()), []byte(log))
	runs := i.nodes(id)
	if len(runs) != 1 || runs[0].Attempt != 1 || runs[0].Status != client.NodeStatusCompleted {
		t.Errorf("the node ran as %+v, want one completed attempt", runs)
	}
}

// tells waits until /readyz of processes answers with the status. What is wrong is told in sentences.
func (i *installation) tells(status int, processes ...string) {
	i.t.Helper()
	for _, url := range processes {
		eventually(i.t, func() error {
			resp, err := http.Get(url + "/readyz") //nolint:noctx // eventually gives up
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			text, err := io.ReadAll(resp.Body)
			switch {
			case err != nil:
				return err
			case resp.StatusCode != status:
				return fmt.Errorf("%s/readyz answers %d, not %d: %s", url, resp.StatusCode, status, text)
			case status == http.StatusServiceUnavailable && !strings.Contains(string(text), "The database cannot be reached."):
				return fmt.Errorf("%s/readyz does not say that the database is away: %s", url, text)
			case internals.Match(text):
				i.t.Fatalf("%s/readyz shows what is inside: %s", url, text)
			}
			return nil
		})
	}
}

// internals are what nobody is shown: SQLSTATEs, words of the driver and of Go, paths.
var internals = regexp.MustCompile(`SQLSTATE|\b(08|57|53)[0-9A-Z]{3}\b|FATAL|pgx|pgconn|dial |socket|unix|EOF|\.s\.PGSQL|/tmp|/var|/home|/root|127\.0\.0\.1|context |goroutine|failed to|connection re|\bnil\b`)

// checkUnavailable checks the answer of a server whose database is away.
func checkUnavailable(t testing.TB, what string, resp *http.Response, text []byte) {
	t.Helper()
	var p client.Problem
	switch err := json.Unmarshal(text, &p); {
	case resp.StatusCode != http.StatusServiceUnavailable, resp.Header.Get("Content-Type") != "application/problem+json", err != nil:
		t.Errorf("%s: %d %s: %s", what, resp.StatusCode, resp.Header.Get("Content-Type"), text)
	case p.Status != resp.StatusCode || p.RequestID == "" || !strings.HasSuffix(p.Detail, "."),
		(p.Code == "unavailable") != (resp.Header.Get("Retry-After") != ""):
		t.Errorf("%s: an incomplete problem: %s", what, text)
	case internals.MatchString(p.Detail + p.Title + p.Code):
		t.Errorf("%s: the problem shows what is inside: %s", what, text)
	}
}
