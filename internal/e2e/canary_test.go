package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"foundry/api/client"
	"foundry/internal/pgtest"
)

// The commands get what they print as files that are turned by 128, since the files of a version are in the database too.
const canaryText = `name: canary
inputs: { marker: { type: string, required: true } }
files: { lib.sh: lib.sh, print.bin: print.bin, outputs.bin: outputs.bin, mask.bin: mask.bin, late.bin: late.bin, env.bin: env.bin }
nodes:
  print:
    env: { MARKER: "${{ inputs.marker }}" }
    run: |
      . ./lib.sh
      turn env.bin | while IFS= read -r name; do printf '%s=%s\n' "$name" "${!name}" | sha256sum; done
      turn print.bin
      turn print.bin >&2
      for ((k = 1; k < ${#SPLIT}; k++)); do
        printf %s "${SPLIT:0:k}"; printf %s "${SPLIT:0:k}" >&2
        sleep 0.01
        printf '%s\n' "${SPLIT:k}"; printf '%s\n' "${SPLIT:k}" >&2
      done
      printf %s "$LONG" | base64
      echo "$MULTI"
      turn outputs.bin >"$FOUNDRY_OUTPUT"
      echo "marker=$MARKER" >>"$FOUNDRY_OUTPUT"
      { turn print.bin; echo "$MARKER"; } >"$FOUNDRY_SUMMARY"
      turn mask.bin
      turn late.bin
      echo "$MARKER"
  later: # a mask holds for the whole execution; across the streams of one command the order is that of arrival, which nobody knows
    needs: [print]
    run: |
      . ./lib.sh
      turn late.bin
      turn late.bin >&2
  small:
    env: { MARKER: "${{ inputs.marker }}" }
    run: |
      printf 'odd=%s\nhex=%s\nmarker=%s\n' "$ODD" "$(printf %s "$SHORT" | od -An -v -tx1 | tr -d ' \n')" "$MARKER" >"$FOUNDRY_OUTPUT"
  derived:
    needs: [small]
    set:
      copy: "<${{ nodes.small.outputs.odd }}>"
      marker: ${{ nodes.small.outputs.marker }}
  wrong:
    continue-on-error: true
    run: echo "$SHORT $ODD" >"$FOUNDRY_OUTPUT"
  dies:
    continue-on-error: true
    run: |
      echo "cannot sign in with $ODD" >&2
      exit 3
  repeats:
    continue-on-error: true
    run: echo "$WORD<<" >"$FOUNDRY_OUTPUT"
  quotes:
    continue-on-error: true
    run: printf 'x<<%s\n' "$UTF" >"$FOUNDRY_OUTPUT"
  one:
    secrets: [SHORT]
    run: echo "${SHORT:+has SHORT}${ODD:+ has ODD}"
  unknown:
    continue-on-error: true
    secrets: [SHORT, NO_SUCH_KEY]
    run: "true"
outputs:
  copy: ${{ nodes.small.outputs.odd }}
  marker: ${{ nodes.small.outputs.marker }}
`

const canaryLibrary = `turn() { LC_ALL=C tr '\000-\377' '\200-\377\000-\177' <"$1"; }
`

func (i *installation) setSecret(workflow, key, value string) {
	i.t.Helper()
	body := map[string]any{"value": value}
	if status := i.call(http.MethodPut, "/workflows/"+workflow+"/secrets/"+key, body, nil); status/100 != 2 {
		i.t.Fatalf("setting %s: %d", key, status)
	}
}

// run runs the canary and returns everything that was told of it. worker may change the worker's command; nil is fine.
func (c canary) run(t *testing.T, worker func(*exec.Cmd)) (*installation, *sinks) {
	t.Helper()
	i, workerPort := startOn(t, pgtest.Database(t), worker)
	i.push(canaryText, c.files())
	for key, value := range c.values {
		i.setSecret("canary", key, value)
	}
	s := newSinks(i)
	s.watchCommands()
	s.nameSecret("NAMED_" + c.marker)
	follow := spawn(t, i.dir, i.client(), nil, "run", "canary", "-i", "marker="+c.marker, "--follow")
	if code := follow.wait(); code != 0 {
		t.Fatalf("the canary ended with %d", code)
	}
	s.stopWatching()
	var list client.ExecutionPage
	if i.call(http.MethodGet, "/executions", nil, &list); len(list.Data) != 1 {
		t.Fatalf("there are %d executions", len(list.Data))
	}
	s.refusals(c)
	s.plant(c.marker)
	s.collect(list.Data[0].ID.String(), workerPort)
	s.add("the terminal that follows", follow.out.Bytes(), follow.err.Bytes())
	return i, s
}

// told lists what of the canary is found where.
func (c canary) told(s *sinks) (told []string) {
	for what, form := range c.needles() {
		for _, sink := range s.find(form) {
			told = append(told, what+" in "+sink)
		}
	}
	slices.Sort(told)
	return told
}

// TestNoSecretIsToldAnywhere runs a workflow that prints its secrets in every form, and searches everything.
func TestNoSecretIsToldAnywhere(t *testing.T) {
	t.Parallel()
	c := newCanary()
	i, s := c.run(t, nil)
	if told := c.told(s); len(told) > 0 {
		t.Errorf("%d are told, among them %q", len(told), told[:min(len(told), 20)])
	}
	for key, value := range c.values {
		if told := s.find(strings.Trim(strconv.Quote(value), `"`)); len(told) > 0 {
			t.Errorf("%s, as Go quotes it, is told in %q", key, told)
		}
	}
	s.mustFind(c.marker)
	c.hadItsSecrets(t, i, s)
	c.failed(t, i, s, "***")
	if e := i.execution(s.execution); !strings.Contains(string(e.Outputs), `"copy":"***"`) {
		t.Errorf("the execution's outputs are %s", e.Outputs)
	}
	if len(s.find(`"output_redacted"`)) == 0 {
		t.Error("there is no warning about outputs")
	}
	if bytes.Contains(s.content["worker metrics"], []byte("foundry_redactions_total 0\n")) || len(s.find("foundry_redactions_total")) != 1 {
		t.Error("the worker's metrics count no masked runs")
	}
}

// hadItsSecrets: it was not silence that kept them. The commands had them, and said so.
func (c canary) hadItsSecrets(t *testing.T, i *installation, s *sinks) {
	t.Helper()
	log := string(i.logs(s.execution, "print"))
	for key, value := range c.values {
		sum := sha256.Sum256([]byte(key + "=" + value + "\n"))
		if strings.ContainsAny(value, "\n") {
			continue // read line by line in the script
		}
		if !strings.Contains(log, hex.EncodeToString(sum[:])) {
			t.Errorf("the command did not have the value of %s", key)
		}
	}
	if strings.Count(log, "***") < 50 || !strings.Contains(log, "::add-mask::***") {
		t.Errorf("the output has too few masks:\n%s", tail(log))
	}
	if got := string(i.logs(s.execution, "one")); got != "has SHORT\n" {
		t.Errorf("a node that lists SHORT says %q", got)
	}
}

// failed checks the errors of the nodes that fail. One of them repeats the secret WORD, which is shown as the given text.
func (c canary) failed(t *testing.T, i *installation, s *sinks, shown string) {
	t.Helper()
	runs := map[string]client.NodeRun{}
	for _, run := range i.nodes(s.execution) {
		runs[run.Key] = run
	}
	if e := runs["unknown"].Error; e == nil || e.Code != "secret" || !strings.Contains(e.Message, "NO_SUCH_KEY") {
		t.Errorf("a node that lists an unknown key has the error %+v", e)
	}
	if e := runs["repeats"].Error; e == nil || e.Code != "outputs" || !strings.Contains(e.Message, "after "+shown+"<<") {
		t.Errorf("a node whose error repeats a secret has the error %+v", e)
	}
}

// TestTheCanaryFailsWithoutRedaction is the same run with a worker that masks nothing, and the same search: it finds every form, and
// in every place that shows what a command says.
func TestTheCanaryFailsWithoutRedaction(t *testing.T) {
	t.Parallel()
	unredacted := buildUnredacted(t)
	c := newCanary()
	i, s := c.run(t, func(cmd *exec.Cmd) { cmd.Path = unredacted })
	told := c.told(s)
	for what := range c.needles() {
		if !slices.ContainsFunc(told, func(s string) bool { return strings.HasPrefix(s, what+" in ") }) {
			t.Errorf("%s was printed and is found nowhere", what)
		}
	}
	c.failed(t, i, s, c.values["WORD"])
	for what, sinks := range map[string][]string{
		"SHORT hex":  {"database node_runs", "GET events", "event stream", "GET nodes"}, // an output
		"ODD whole":  {"database execution_data", "GET execution", "GET logs", "GET logs of print", "GET events", "event stream", "the terminal that follows"},
		"WORD whole": {"database node_runs", "GET events", "event stream", "GET nodes", "the terminal that follows"}, // an error
	} {
		for _, sink := range sinks {
			if !slices.Contains(told, what+" in "+sink) {
				t.Errorf("%s is not told in %s", what, sink)
			}
		}
	}
}
