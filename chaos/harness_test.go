package chaos

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"foundry/internal/failpoint"
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
