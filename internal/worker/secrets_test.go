package worker_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"

	"foundry/internal/audit"
	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/pgtest"
	"foundry/internal/redact"
	"foundry/internal/sandbox"
	"foundry/internal/secret"
	"foundry/internal/workflow"
)

func keyring(t *testing.T, keys ...string) *secret.Keyring {
	t.Helper()
	k, err := secret.ParseKeyring(strings.Join(keys, ","))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// setSecret stores a value as a process with the keys does.
func (b *testBundle) setSecret(keys *secret.Keyring, w *workflow.Workflow, key, value string) {
	b.t.Helper()
	by := audit.Actor{OrganizationID: b.org, Kind: audit.User, Name: "ada"}
	_, err := secret.NewStore(b.pool, keys).Set(b.t.Context(), by, secret.Change{WorkflowID: w.ID, Key: key, Value: redact.Value(value), Mask: true})
	if err != nil {
		b.t.Fatal(err)
	}
}

func TestNodesGetTheSecretsThatTheyList(t *testing.T) {
	t.Parallel()
	b, keys := setup(t), keyring(t, secret.NewKey("a"))
	const say = "run: 'echo ${ONE:+one} ${TWO:+two} $NAME | tr a-z A-Z'"
	w := b.push("name: listed\nenv: { NAME: env, ONE: '' }\nnodes:\n  all:\n    " + say + "\n  some:\n    secrets: [TWO]\n    " + say + "\n  none:\n    secrets: []\n    " + say + "\n")
	b.setSecret(keys, w, "ONE", "value-of-one")
	b.setSecret(keys, w, "TWO", "value-of-two")
	id := b.enqueue(w, "")
	b.startWorkerWith(2, keys)
	if x := b.end(id); x.Status != execution.Completed {
		t.Fatalf("status %s, failure %+v", x.Status, x.Failure)
	}
	for node, want := range map[string]string{"all": "ONE TWO ENV\n", "some": "TWO ENV\n", "none": "ENV\n"} {
		if got := b.log(id, node, event.Stdout); got != want {
			t.Errorf("%s says %q, want %q", node, got, want)
		}
	}
	reads := pgtest.Get[string](t, b.pool, "SELECT string_agg(actor_kind || ' ' || target || ' ' || data, ', ' ORDER BY target) FROM audit_log WHERE execution_id = $1 AND actor_id IS NOT NULL", id)
	if want := `worker ONE {"claim": 1, "version": 1}, worker TWO {"claim": 1, "version": 1}`; reads != want {
		t.Errorf("the audit says %s, want %s", reads, want)
	}
}

// TestWorkerWithoutTheKeyGivesBack has a worker that lacks the key meet the execution first, again and again.
func TestWorkerWithoutTheKeyGivesBack(t *testing.T) {
	t.Parallel()
	b, key := setup(t), secret.NewKey("a")
	w := b.push("name: locked\nnodes:\n  only:\n    run: 'test -n \"$ONE\"'\n")
	plain := b.push("name: plain\nnodes:\n  only: { run: echo fine }\n")
	b.setSecret(keyring(t, key), w, "ONE", "value-of-one")
	id := b.enqueue(w, "")
	url, _ := b.startWorkerWith(2, keyring(t, secret.NewKey("b")))

	await(t, "the execution to be given back", func() bool { return b.has(id, event.Type("execution.released")) })
	const why = `The secret ONE is encrypted with the key "a", which this process does not have.`
	await(t, "/readyz to say why", func() bool { // after what matters more: whether the database has answered within seconds
		status, text := get(t, url+"/readyz")
		return status == http.StatusServiceUnavailable && text == why+"\n"
	})
	if status, _ := get(t, url+"/healthz"); status != http.StatusOK {
		t.Errorf("/healthz answers %d", status)
	}
	if x := b.end(b.enqueue(plain, "")); x.Status != execution.Completed {
		t.Errorf("other work ends %s", x.Status)
	}
	if got := b.types(id); len(got) != 3 {
		t.Errorf("the worker has claimed it again at once: %v", got)
	}
	pgtest.CheckInvariants(t, b.pool)
	if reason := pgtest.Get[string](t, b.pool, "SELECT data->>'reason' FROM execution_events WHERE execution_id = $1 AND type = 'execution.released'", id); reason != why {
		t.Errorf("the reason is %q", reason)
	}

	b.startWorkerWith(2, keyring(t, key))
	if x := b.end(id); x.Status != execution.Completed {
		t.Errorf("with the key it ends %s: %+v", x.Status, x.Failure)
	}
}

func get(t *testing.T, url string) (status int, text string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestChangedSecretFailsTheExecution(t *testing.T) {
	t.Parallel()
	b, keys := setup(t), keyring(t, secret.NewKey("a"))
	w := b.push("name: changed\nnodes:\n  only: { run: echo never }\n")
	b.setSecret(keys, w, "ONE", "value-of-one")
	pgtest.Exec(t, b.pool, "UPDATE secret_versions SET ciphertext = set_bit(ciphertext, 100, 1 - get_bit(ciphertext, 100))")
	id := b.enqueue(w, "")
	b.startWorkerWith(1, keys)
	x := b.end(id)
	if x.Status != execution.Failed || x.Failure.Code != "secret" || !strings.HasPrefix(x.Failure.Message, "The secret ONE cannot be opened") {
		t.Errorf("status %s, failure %+v", x.Status, x.Failure)
	}
	if b.has(id, event.NodeStarted) {
		t.Error("a node was run")
	}
	pgtest.CheckInvariants(t, b.pool)
}

// TestMasksOutliveTheWorker has a mask announced under one claim and its value printed under the next.
func TestMasksOutliveTheWorker(t *testing.T) {
	t.Parallel()
	b, keys := setup(t), keyring(t, secret.NewKey("a"))
	w := b.push(`name: masks
nodes:
  only:
    run: |
      echo "::add-mask::runtime-value-1"; echo "::add-mask::runtime-value-2" >&2
      echo "first runtime-value-1"
      while [ ! -e go ]; do sleep 0.05; done
      echo "::add-mask::runtime-value-3"
      echo "runtime-value-1 runtime-value-2 runtime-value-3 $ONE"
      echo "out=runtime-value-2" >"$FOUNDRY_OUTPUT"
      echo "was runtime-value-1" >"$FOUNDRY_SUMMARY"
`)
	b.setSecret(keys, w, "ONE", "value-of-one")
	id := b.enqueue(w, "")
	_, stop := b.startWorkerWith(1, keys)
	await(t, "both masks and the first line", func() bool {
		return pgtest.Get[int](t, b.pool, "SELECT count(*) FROM execution_masks WHERE execution_id = $1", id) == 2 &&
			b.nodes(id)["only"].StdoutBytes > 0 && strings.Contains(b.log(id, "only", event.Stdout), "first ***")
	})
	stop()
	b.setSecret(keys, w, "ONE", "value-of-later")
	b.startWorkerWith(1, keys)
	await(t, "the second worker", func() bool { return b.has(id, event.NodeAttached) })
	b.letGo(id)
	x := b.end(id)
	if x.Status != execution.Completed {
		t.Fatalf("status %s, failure %+v", x.Status, x.Failure)
	}
	if got, want := b.log(id, "only", event.Stdout), "::add-mask::***\nfirst ***\n::add-mask::***\n*** *** *** ***\n"; got != want {
		t.Errorf("the output is %q, want %q", got, want)
	}
	only := b.nodes(id)["only"]
	if string(only.Outputs) != `{"out": "***"}` || only.Summary != "was ***\n" {
		t.Errorf("outputs %s, summary %q", only.Outputs, only.Summary)
	}
	if !b.has(id, event.Warning) {
		t.Error("there is no warning about the output")
	}
	await(t, "the masks to go with the sandbox", func() bool { return pgtest.Get[int](t, b.pool, "SELECT count(*) FROM execution_masks") == 0 })
}

func TestMasksWithoutKeysHoldInMemory(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.push("name: keyless\nnodes:\n  only:\n    run: |\n      echo ::add-mask::runtime-value-1\n      echo ::add-mask::runtime-value-2\n      echo runtime-value-1 runtime-value-2\n")
	id := b.enqueue(w, "")
	b.startWorkerWith(1, nil)
	b.end(id)
	if got, want := b.log(id, "only", event.Stdout), "::add-mask::***\n::add-mask::***\n*** ***\n"; got != want {
		t.Errorf("the output is %q, want %q", got, want)
	}
	warnings := pgtest.Get[string](t, b.pool, "SELECT string_agg(data->>'code', ',') FROM execution_events WHERE execution_id = $1 AND type = 'warning'", id)
	if warnings != "mask_not_stored" {
		t.Errorf("the warnings are %s, want one", warnings)
	}
}

func TestTooManyMasksAreTold(t *testing.T) {
	t.Parallel()
	b, keys := setup(t), keyring(t, secret.NewKey("a"))
	w := b.push("name: many\nnodes:\n  only:\n    run: for ((n = 1; n <= 1002; n++)); do echo ::add-mask::runtime-value-$n; done\n")
	id := b.enqueue(w, "")
	b.startWorkerWith(1, keys)
	b.end(id)
	if got := strings.Count(b.log(id, "only", event.Stdout), "::add-mask::***\n"); got != 1002 {
		t.Errorf("%d lines", got)
	}
	warnings := pgtest.Get[string](t, b.pool, "SELECT string_agg(data->>'code', ',') FROM execution_events WHERE execution_id = $1 AND type = 'warning'", id)
	if warnings != "mask_limit" {
		t.Errorf("the warnings are %s, want one", warnings)
	}
}

// TestNothingIsReadWithoutSecrets has a workflow whose only secret came after its first claim.
func TestNothingIsReadWithoutSecrets(t *testing.T) {
	t.Parallel()
	b, keys := setup(t), keyring(t, secret.NewKey("a"))
	w := b.push("name: late\nnodes:\n  only:\n    run: |\n      while [ ! -e go ]; do sleep 0.05; done\n      echo \"[$LATE]\"\n")
	id := b.enqueue(w, "")
	_, stop := b.startWorkerWith(1, nil)
	await(t, "the command", func() bool { return b.has(id, event.NodeStarted) })
	stop()
	b.setSecret(keys, w, "LATE", "value-of-later")
	b.startWorkerWith(1, nil) // and needs no key
	await(t, "the second worker", func() bool { return b.has(id, event.NodeAttached) })
	b.letGo(id)
	if x := b.end(id); x.Status != execution.Completed {
		t.Fatalf("status %s, failure %+v", x.Status, x.Failure)
	}
	if got := b.log(id, "only", event.Stdout); got != "[]\n" {
		t.Errorf("the output is %q", got)
	}
}

// letGo makes the file that an execution's command waits for.
func (b *testBundle) letGo(id uuid.UUID) {
	b.t.Helper()
	boxes, err := b.fake.List(b.t.Context(), map[string]string{sandbox.LabelExecution: id.String()})
	if err != nil || len(boxes) != 1 {
		b.t.Fatalf("%d sandboxes, %v", len(boxes), err)
	}
	openGate(b.t, boxes[0].Workspace)
}
