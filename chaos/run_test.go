package chaos

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"foundry/chaos/check"
	"foundry/chaos/plan"
	"foundry/internal/lifecycle"
	"foundry/internal/pgtest"
)

// lease is short, so that a takeover does not take most of a run.
const lease = 2 * time.Second

// form is how much a run does.
type form struct {
	name       string
	executions int // at least
	kills      int // at least
	live       int // executions at a time, at most, beside those that nodes run
	workflows  int
	shape      plan.Shape
	workers    int
	serves     int
	gap        time.Duration // between two blows, on average
	limit      time.Duration // of the storm
	smallDisk  bool
}

// run is one run of one seed.
type run struct {
	t         *testing.T
	seed      uint64
	form      form
	binary    string
	level     string
	dir       string // everything that is not the database's
	cluster   *cluster
	client    *client
	workers   []*process
	serves    []*process
	workflows []*plan.Workflow
	keepers   sync.WaitGroup
	clients   sync.WaitGroup
	calm      bool           // processes that start from now on have no failpoints; set while none of them runs
	mounted   bool           // the small disk
	ended     map[string]int // executions by status, once the run is over
	crowds    []check.Crowd
	fanned    fanned

	mu        sync.Mutex
	queued    int                           // executions that clients were promised
	accepted  map[uuid.UUID]*check.Accepted // those, and others of which something was accepted
	count     counts
	disturbed time.Time // when Postgres was shut down last, or connections were cut
}

// state is where the sandboxes are, ledger what their commands note.
func (r *run) state() string     { return filepath.Join(r.dir, "state") }
func (r *run) sandboxes() string { return filepath.Join(r.state(), "sandboxes") }
func (r *run) ledger() string    { return filepath.Join(r.state(), "volumes", "ledger") }
func (r *run) logs() string      { return filepath.Join(r.dir, "logs") }

// newRun brings up an installation with its workflows. Nothing is broken yet.
func newRun(t *testing.T, seed uint64, f form) *run {
	t.Helper()
	name, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "foundry-chaos-") //nolint:usetesting // it stays where a run fails
	if err != nil {
		t.Fatal(err)
	}
	r := &run{t: t, seed: seed, form: f, binary: name, dir: dir, accepted: map[uuid.UUID]*check.Accepted{}, count: newCounts()}
	t.Cleanup(r.clean)
	for _, dir := range []string{r.logs(), r.sandboxes()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	r.mountSmallDisk()
	if err := os.MkdirAll(r.ledger(), 0o777); err != nil {
		t.Fatal(err)
	}
	r.level = r.chooseLevel()
	r.cluster = newCluster(t)
	r.startProcesses()
	r.push()
	return r
}

// chooseLevel takes bubblewrap where it works.
func (r *run) chooseLevel() string {
	if *levelFlag != "" {
		return *levelFlag
	}
	probe := exec.CommandContext(r.t.Context(), "bwrap", "--ro-bind", "/", "/", "--unshare-pid", "true")
	if probe.Run() == nil {
		return "bwrap"
	}
	return "process"
}

func (r *run) clean() {
	r.stop()
	r.unmountSmallDisk()
	if r.t.Failed() || *keepFlag {
		r.t.Logf("logs are in %s", r.logs())
		return
	}
	_ = os.RemoveAll(r.dir) // a temporary folder
}

// command runs a command of the program to its end and returns what it prints.
func (r *run) command(args ...string) string {
	r.t.Helper()
	cmd := exec.CommandContext(r.t.Context(), r.binary, args...)
	cmd.Env = append(r.base(), "DATABASE_URL="+r.cluster.url)
	out, err := cmd.Output()
	if err != nil {
		r.t.Fatalf("foundry %s: %v", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out))
}

func (r *run) base() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + r.dir, "LANG=C.UTF-8"} //nolint:forbidigo // the children's environment
}

// startProcesses makes all places and starts what belongs there.
func (r *run) startProcesses() {
	key := r.command("keygen")
	common := append(r.base(),
		"DATABASE_URL="+r.cluster.url, "FOUNDRY_ENCRYPTION_KEYS="+key, "FOUNDRY_WORKER_LEASE="+lease.String(), "FOUNDRY_DRAIN_TIMEOUT=10s")
	r.client = &client{token: r.command("admin", "token"), http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}}}
	r.t.Cleanup(r.client.http.CloseIdleConnections)
	for i := range r.form.serves {
		port := pgtest.FreePort(r.t)
		r.client.urls = append(r.client.urls, "http://127.0.0.1:"+strconv.Itoa(port))
		r.serves = append(r.serves, r.place(serve, i, append(slices.Clone(common), "PORT="+strconv.Itoa(port)), serveFailpoints))
	}
	for i := range r.form.workers {
		env := append(slices.Clone(common), "PORT=0", "FOUNDRY_STATE_DIR="+r.state(), "FOUNDRY_LOCAL_SANDBOX="+r.level, "FOUNDRY_WORKER_SLOTS=8")
		r.workers = append(r.workers, r.place(worker, i, env, workerFailpoints))
	}
	r.startAll()
}

// startAll starts an instance in each place, and a keeper for it.
func (r *run) startAll() {
	for _, p := range r.processes() {
		p.close(false)
		p.start(r.binary)
		r.keepers.Go(func() { r.keep(p) })
	}
}

func (r *run) processes() []*process { return slices.Concat(r.serves, r.workers) }

func (r *run) place(role role, i int, env []string, failpoints string) *process {
	p := &process{t: r.t, role: role, name: fmt.Sprintf("%s-%d", role, i+1), dir: r.logs()}
	p.env = func(instance int) []string {
		if r.calm {
			return env
		}
		seed := r.seed ^ uint64(len(r.serves)<<40|i<<32|instance)
		return append(slices.Clone(env), "FOUNDRY_FAILPOINTS="+failpoints, "FOUNDRY_FAILPOINTS_SEED="+strconv.FormatUint(seed, 10))
	}
	return p
}

// keep starts another instance whenever one has ended, and takes note of those that killed themselves.
func (r *run) keep(p *process) {
	for {
		<-p.gone()
		if p.isClosed() {
			return
		}
		r.note(p)
		if !lifecycle.Sleep(r.t.Context(), 50*time.Millisecond) || !p.start(r.binary) {
			return
		}
	}
}

// push stores the workflows and their secrets.
func (r *run) push() {
	ctx, cancel := context.WithTimeout(r.t.Context(), 3*time.Minute)
	defer cancel()
	place := plan.Place{Ledger: r.ledger()}
	if r.level == "bwrap" {
		place = plan.Place{Ledger: "/ledger", Volume: "ledger"}
	}
	for n := range r.form.workflows {
		w := plan.New(r.seed, n, r.form.shape)
		r.workflows = append(r.workflows, &w)
		body := map[string]string{"source": w.Text(place), "slug": w.Slug}
		if status, err := r.client.insist(ctx, http.MethodPost, "/workflows", map[string]string{"Idempotency-Key": w.Slug}, body, nil); err != nil || status != http.StatusCreated {
			r.t.Fatalf("pushing %s: %d, %v", w.Slug, status, err)
		}
		if w.Secret == "" {
			continue
		}
		path := "/workflows/" + w.Slug + "/secrets/" + plan.SecretKey
		if status, err := r.client.insist(ctx, http.MethodPut, path, nil, map[string]string{"value": w.Secret}, nil); err != nil {
			r.t.Fatalf("setting the secret of %s: %d, %v", w.Slug, status, err)
		}
	}
}

// stop ends all processes, whatever state they are in.
func (r *run) stop() {
	for _, p := range r.processes() {
		p.close(true)
		if p.pid() == 0 {
			continue
		}
		if err := p.end(); err != nil {
			r.t.Error(err)
		}
		r.note(p)
	}
	r.keepers.Wait()
}

// settle starts all processes anew, without failpoints.
func (r *run) settle() {
	r.stop()
	r.calm = true
	r.startAll()
}

// list is what was accepted so far, in the order of acceptance.
func (r *run) list() []check.Accepted {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]check.Accepted, 0, len(r.accepted))
	for _, a := range r.accepted {
		accepted := *a
		accepted.Decided = maps.Clone(a.Decided)
		list = append(list, accepted)
	}
	slices.SortFunc(list, func(a, b check.Accepted) int { return strings.Compare(a.ID.String(), b.ID.String()) })
	return list
}
