package chaos

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"foundry/internal/failpoint"
	"foundry/internal/pgtest"
)

func TestBlowsFollowTheSeed(t *testing.T) {
	t.Parallel()
	deal := func(seed uint64) (dealt []blow) {
		next := blows(seed, time.Second)
		for range 2000 {
			dealt = append(dealt, next())
		}
		return dealt
	}
	first := deal(1)
	if !slices.Equal(first, deal(1)) {
		t.Error("one seed deals differently")
	}
	if slices.Equal(first, deal(2)) {
		t.Error("two seeds deal the same")
	}
	dealt, pause := map[kind]int{}, time.Duration(0)
	for _, b := range first {
		dealt[b.kind]++
		pause += b.pause
		if b.pick < 0 || b.pick >= 1 || b.pause > 4*time.Second {
			t.Fatalf("a blow out of bounds: %+v", b)
		}
	}
	for _, k := range []kind{
		killWorker, killServe, killShim, crashPostgres, drainWorker, drainServe, freezeWorker, cutQueries, cutListeners, fillDisk,
	} {
		if dealt[k] == 0 {
			t.Errorf("never dealt: %s", k)
		}
	}
	if mean := pause / 2000; mean < 800*time.Millisecond || mean > 1200*time.Millisecond {
		t.Errorf("the pauses are %s long on average", mean)
	}
}

func TestFailpointsOfProcessesAreRules(t *testing.T) {
	t.Parallel()
	for _, text := range []string{workerFailpoints, serveFailpoints} {
		if rules, err := failpoint.Parse(text); err != nil || len(rules) == 0 {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestKillsAreAimed(t *testing.T) {
	t.Parallel()
	c := newCounts()
	if c.worth(killWorker, false) || !c.worth(killWorker, true) || !c.worth(drainWorker, false) {
		t.Error("the first kill must hit what runs, others need not")
	}
	for range 7 {
		c.dealt(killShim, true)
	}
	c.dealt(killWorker, false)
	if !c.worth(killWorker, false) {
		t.Error("after seven hits a miss is not too many")
	}
	c.dealt(killServe, false)
	c.dealt(cutQueries, true)
	c.dealt(drainWorker, true)
	if all, busy := c.kills(); all != 9 || busy != 7 {
		t.Errorf("%d kills, %d busy", all, busy)
	}
	if c.dealt(killSelf, false); c.worth(killWorker, false) {
		t.Error("with three misses in ten another is too many")
	}
}

func TestLogsAreRead(t *testing.T) {
	t.Parallel()
	const log = `{"level":"warn","failpoint":"journal.commit.after","action":"kill","message":"failpoint"}
{"level":"error","code":"unavailable","message":"request failed"}
{"level":"warn","message":"listening connection lost"}
foundry: The database cannot be reached.
{"level":"error","code":"internal","message":"request failed"}
{"level":"error","message":"data of an execution cannot be stored; ending it"}
{"level":"warn","error":"deadlock detected (SQLSTATE 40P01)","message":"journal commit failed; trying again"}
panic: runtime error: index out of range
{"level":"err`
	name := filepath.Join(t.TempDir(), "worker-1.1.log")
	if err := os.WriteFile(name, []byte(log), 0o600); err != nil {
		t.Fatal(err)
	}
	var read, bad []int
	if err := readLog(name, func(r record) {
		read = append(read, len(read))
		if r.bad() {
			bad = append(bad, len(read)-1)
		}
		if r.Message == "failpoint" && (r.Failpoint != "journal.commit.after" || r.Action != "kill") {
			t.Errorf("read %+v", r)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if len(read) != 9 || !slices.Equal(bad, []int{4, 5, 6, 7}) {
		t.Errorf("read %d records, bad are %v", len(read), bad)
	}
}

func TestExplanationsAreFound(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	organization, workflow := pgtest.Workflow(t, pool)
	id := uuid.Must(uuid.NewV7())
	pgtest.Exec(t, pool, `INSERT INTO executions (id, organization_id, workflow_id, workflow_version, number, status, source, queued_at, queue_deadline_at)
VALUES ($1, $2, $3, 1, 1, 'queued', 'api', now(), now())`, id, organization, workflow)
	pgtest.Exec(t, pool, "INSERT INTO execution_queue (execution_id, run_order) VALUES ($1, now())", id)
	pgtest.Exec(t, pool, "INSERT INTO node_runs (id, execution_id, node_key, status, prompt) VALUES (gen_random_uuid(), $1, 'ask', 'waiting', '{}')", id)
	pgtest.Exec(t, pool, "INSERT INTO execution_events (day, execution_id, seq, type) VALUES (execution_day($1), $1, 1, 'execution.queued')", id)
	wants := map[string]string{
		"executions that have not ended":  "in the queue",
		"their nodes that have not ended": "ask/0/1 is waiting since , asks {}",
		"their newest events":             "execution.queued",
	}
	for _, e := range explanations {
		lines, err := linesOf(t.Context(), pool.Config().ConnString(), e.sql)
		if err != nil {
			t.Errorf("%s: %v", e.title, err)
		}
		told := strings.Join(lines, "\n")
		if want := wants[e.title]; want != "" && (!strings.Contains(told, id.String()) || !strings.Contains(told, want)) {
			t.Errorf("%s: %q", e.title, told)
		}
	}
}

// TestAClosedPlaceStaysEmpty has the keeper of a place between the end of one instance and the start of the next while the place is closed.
func TestAClosedPlaceStaysEmpty(t *testing.T) {
	t.Parallel()
	p := &process{t: t, role: "30", name: "sleeper", dir: t.TempDir(), env: func(int) []string { return nil }}
	if !p.start("sleep") {
		t.Fatal("an open place starts nothing")
	}
	p.signal(syscall.SIGKILL)
	<-p.gone()
	p.close(true)
	if p.start("sleep") || p.pid() != 0 {
		t.Error("a closed place has started an instance")
	}
	p.close(false)
	if !p.start("sleep") || p.pid() == 0 {
		t.Error("a place that is open again starts nothing")
	}
	p.signal(syscall.SIGKILL)
	<-p.gone()
}

// script is a place for a process that carries out lines of a shell, and its first instance, which has said something.
func script(t *testing.T, lines string) *process {
	t.Helper()
	name := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(name, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, role: role(name), name: "script", dir: t.TempDir(), env: func(int) []string { return []string{"PATH=/usr/bin:/bin"} }}
	if !p.start("sh") {
		t.Fatal("nothing was started")
	}
	err := eventually(t.Context(), time.Minute, func() error {
		if info, err := os.Stat(p.log); err != nil || info.Size() == 0 {
			return errors.New("it has said nothing")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestAnInstanceIsToldOnce: the second SIGTERM would be the end of a process that gives back what it holds.
func TestAnInstanceIsToldOnce(t *testing.T) {
	t.Parallel()
	p := script(t, "trap '' TERM\necho ready\nexec sleep 600")
	p.signal(syscall.SIGSTOP)
	if p.strike(syscall.SIGTERM) != nil {
		t.Error("one that is frozen was told to end")
	}
	p.signal(syscall.SIGCONT)
	gone := p.strike(syscall.SIGTERM)
	if gone == nil || p.strike(syscall.SIGTERM) != nil {
		t.Error("an instance was not told to end, or was twice")
	}
	p.signal(syscall.SIGSTOP)
	if p.strike(syscall.SIGKILL) == nil {
		t.Fatal("one that is frozen was not killed")
	}
	<-gone
	if p.strike(syscall.SIGKILL) != nil {
		t.Error("what is gone was killed")
	}
}

// TestTheLastWordIsNotTheFailpoints has a process say something between the record of the failpoint that kills it and its end.
func TestTheLastWordIsNotTheFailpoints(t *testing.T) {
	t.Parallel()
	p := script(t, `echo '{"level":"warn","failpoint":"queue.claim.after","action":"kill","message":"failpoint"}
{"level":"info","message":"somebody else"}'
kill -9 $$`)
	<-p.gone()
	if state, failpoint := p.last(); killedBy(state) != syscall.SIGKILL || failpoint != "queue.claim.after" {
		t.Errorf("%s, by %q", state, failpoint)
	}
}

func TestProcessesAreFound(t *testing.T) {
	t.Parallel()
	if found := processesOf("no process has this in its arguments or environment: " + t.TempDir()); len(found) > 0 {
		t.Errorf("found %v", found)
	}
	text := t.TempDir()
	p := &process{t: t, role: "30", name: "sleeper", dir: text, env: func(int) []string { return []string{"PLACE=" + text} }}
	p.start("sleep")
	defer func() { <-p.gone() }()
	defer p.signal(9)
	found := processesOf(text)
	if len(found) != 1 || found[0].pid != p.pid() || !slices.Equal(found[0].argv, []string{"sleep", "30"}) {
		t.Errorf("found %v, want the process %d", found, p.pid())
	}
}
