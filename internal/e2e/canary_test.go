package e2e

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"foundry/api/client"
	"foundry/internal/pgtest"
	"foundry/internal/secret"
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
      turn late.bin >&2
      echo "$MARKER"
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

// canary is what a run must not tell.
type canary struct {
	values    map[string]string // secrets, by key
	runtime   string            // announced by ::add-mask::, if announced is true
	announced bool
	marker    string // no secret: what every search must find
}

func newCanary() canary {
	random := func() string { return "k#" + rand.Text()[:16] }
	return canary{
		values: map[string]string{
			"SHORT": random()[:8],
			"MULTI": "-----BEGIN " + random() + "\n" + random() + "\r\n" + random() + "\n" + random() + "-----",
			"ODD":   `a"b\c/d e+f%g&h<i>'j=?` + random() + "`$!é",
			"UTF":   "\x01\x1b[31m\u00a0☃𝕏\u2028\ufeff\x7f" + random() + "\t\ufffd",
			"LONG":  longText(1500),
			"SPLIT": random(),
		},
		runtime: "runtime/" + random(), announced: true, marker: "MARKER" + rand.Text(),
	}
}

func longText(size int) string {
	var b strings.Builder
	for b.Len() < size {
		b.WriteString(rand.Text())
	}
	return b.String()[:size]
}

// forms are those of design.md, section 9, of one value: by name, made without package redact.
func forms(value string) map[string]string {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err) // a string
	}
	lower := hex.EncodeToString([]byte(value))
	f := map[string]string{
		"whole": value, "base64url": base64.RawURLEncoding.EncodeToString([]byte(value)),
		"hex": lower, "HEX": strings.ToUpper(lower),
		"query": url.QueryEscape(value), "path": url.PathEscape(value), "json": string(text[1 : len(text)-1]),
	}
	for shift := range 3 {
		f["base64+"+strconv.Itoa(shift)] = base64At(value, shift)
	}
	if strings.Contains(value, "\n") {
		for n, line := range strings.Split(value, "\n") {
			if line = strings.TrimSuffix(line, "\r"); len(line) >= 8 {
				f["line "+strconv.Itoa(n)] = line
			}
		}
	}
	if len(value) > 1024 { // any half of a long value tells too much
		f["first 512"], f["last 512"] = value[:512], value[len(value)-512:]
	}
	return f
}

// base64At is what of a value's base64 does not depend on the text around it, when shift bytes (modulo 3) are before it.
func base64At(value string, shift int) string {
	encoded := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + value))
	return encoded[(shift*8+5)/6 : (shift+len(value))*8/6]
}

// needles are all forms of all values, by what they are.
func (c canary) needles() map[string]string {
	all := map[string]string{}
	add := func(key, value string) {
		for name, form := range forms(value) {
			all[key+" "+name] = form
		}
	}
	for key, value := range c.values {
		add(key, value)
	}
	add("runtime", c.runtime)
	return all
}

// files are what the workflow prints, turned.
func (c canary) files() map[string][]byte {
	var printed, outputs, late strings.Builder
	keys := make([]string, 0, len(c.values))
	for key, value := range c.values {
		keys = append(keys, key)
		for name, form := range forms(value) {
			fmt.Fprintf(&printed, "<%s>\n", form)
			if shift, ok := strings.CutPrefix(name, "base64+"); ok { // in the middle of a text
				n, _ := strconv.Atoi(shift)
				fmt.Fprintf(&printed, "%s\n", base64.StdEncoding.EncodeToString([]byte(strings.Repeat("u", n)+value+" and more")))
			}
			fmt.Fprintf(&outputs, "%s_%s<<CANARY-END\n%s\nCANARY-END\n", key, strings.Map(letters, name), form)
		}
	}
	for _, form := range forms(c.runtime) {
		fmt.Fprintf(&late, "[%s]\n", form)
	}
	slices.Sort(keys)
	turned := map[string]string{
		"print.bin": printed.String(), "outputs.bin": outputs.String(), "late.bin": late.String(),
		"mask.bin": "", "env.bin": strings.Join(keys, "\n") + "\n",
	}
	if c.announced {
		turned["mask.bin"] = "::add-mask::" + c.runtime + "\n"
	}
	files := map[string][]byte{"lib.sh": []byte(canaryLibrary)}
	for name, text := range turned {
		content := []byte(text)
		for n := range content {
			content[n] ^= 0x80
		}
		files[name] = content
	}
	return files
}

func letters(r rune) rune {
	if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
		return r
	}
	return '_'
}

// startWithKeys is start for an installation that can keep secrets. The worker's port is known.
func startWithKeys(t *testing.T) (i *installation, workerPort int) {
	t.Helper()
	i = &installation{api: api{t: t}, dir: t.TempDir(), database: pgtest.Database(t), port: freePort(t)}
	i.url = "http://127.0.0.1:" + strconv.Itoa(i.port)
	token := spawn(t, i.dir, environ("DATABASE_URL="+i.database), nil, "admin", "token")
	if code := token.wait(); code != 0 {
		t.Fatalf("admin token: exit code %d: %s", code, token.err.String())
	}
	i.token = strings.TrimSpace(token.out.String())
	workerPort = freePort(t)
	keys := "FOUNDRY_ENCRYPTION_KEYS=" + secret.NewKey("test")
	i.serve = spawn(t, i.dir, environ("DATABASE_URL="+i.database, "PORT="+strconv.Itoa(i.port), keys, "LOG_LEVEL=debug"), nil, "serve")
	i.worker = spawn(t, i.dir, environ("DATABASE_URL="+i.database, "PORT="+strconv.Itoa(workerPort), keys, "LOG_LEVEL=debug",
		"FOUNDRY_STATE_DIR="+filepath.Join(i.dir, "state")), nil, "worker")
	for _, port := range []int{i.port, workerPort} {
		eventually(t, func() error {
			resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/readyz", port)) //nolint:noctx // eventually gives up
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				return fmt.Errorf("/readyz answers %d", resp.StatusCode)
			}
			return nil
		})
	}
	return i, workerPort
}

func (i *installation) setSecret(workflow, key, value string, mask bool) {
	i.t.Helper()
	body := map[string]any{"value": value, "mask": mask}
	if status := i.call(http.MethodPut, "/workflows/"+workflow+"/secrets/"+key, body, nil); status/100 != 2 {
		i.t.Fatalf("setting %s: %d", key, status)
	}
}

// run runs the canary and returns everything that was told of it.
func (c canary) run(t *testing.T, mask bool) (*installation, *sinks) {
	t.Helper()
	i, workerPort := startWithKeys(t)
	i.push(canaryText, c.files())
	for key, value := range c.values {
		i.setSecret("canary", key, value, mask)
	}
	i.setSecret("canary", "NAMED_"+c.marker, rand.Text(), true)
	s := newSinks(i)
	s.watchCommands()
	follow := spawn(t, i.dir, i.client(), nil, "run", "canary", "-i", "marker="+c.marker, "--follow")
	if code := follow.wait(); code != 0 {
		t.Fatalf("the canary ended with %d", code)
	}
	s.stopWatching()
	var list client.ExecutionPage
	if i.call(http.MethodGet, "/executions", nil, &list); len(list.Data) != 1 {
		t.Fatalf("there are %d executions", len(list.Data))
	}
	s.collect(list.Data[0].ID.String(), workerPort)
	s.add("the terminal that follows", follow.out.Bytes(), follow.err.Bytes())
	return i, s
}

// TestNoSecretIsToldAnywhere runs a workflow that prints its secrets in every form, and searches everything.
func TestNoSecretIsToldAnywhere(t *testing.T) {
	t.Parallel()
	c := newCanary()
	i, s := c.run(t, true)
	for what, form := range c.needles() {
		for _, sink := range s.find(form) {
			t.Errorf("%s is told in: %s", what, sink)
		}
	}
	s.mustFind(c.marker)

	// It was not silence that kept them: the command had them, and said so.
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
	runs := map[string]client.NodeRun{}
	for _, run := range i.nodes(s.execution) {
		runs[run.Key] = run
	}
	if e := runs["unknown"].Error; e == nil || e.Code != "secret" || !strings.Contains(e.Message, "NO_SUCH_KEY") {
		t.Errorf("a node that lists an unknown key has the error %+v", e)
	}
	if e := i.execution(s.execution); !strings.Contains(string(e.Outputs), `"copy":"***"`) {
		t.Errorf("the execution's outputs are %s", e.Outputs)
	}
	if len(s.find(`"output_redacted"`)) == 0 {
		t.Error("there is no warning about outputs")
	}
}

// TestTheCanaryFindsWhatIsNotMasked is the same run with masking off: the values are stored with mask: false, and nothing is announced.
// Each form is found, so the search above would have found it.
func TestTheCanaryFindsWhatIsNotMasked(t *testing.T) {
	t.Parallel()
	c := newCanary()
	c.announced = false
	_, s := c.run(t, false)
	for what, form := range c.needles() {
		if len(s.find(form)) == 0 {
			t.Errorf("%s was printed and is found nowhere", what)
		}
	}
	told := s.find(forms(c.values["SHORT"])["hex"])
	for _, sink := range []string{"database", "GET events", "event stream", "GET nodes"} {
		if !slices.ContainsFunc(told, func(s string) bool { return strings.HasPrefix(s, sink) }) {
			t.Errorf("an output that is not masked is told in %q, not in %s", told, sink)
		}
	}
}

const rotationText = `name: rotation
nodes:
  before:
    run: |
      echo "$ROTATED"; printf %s "$ROTATED" | sha256sum
      : >started
      while [ ! -e go ]; do sleep 0.05; done
  after:
    needs: [before]
    run: echo "$ROTATED"; printf %s "$ROTATED" | sha256sum
`

// TestRotationInTheMiddleOfARun sets a secret anew between two nodes.
func TestRotationInTheMiddleOfARun(t *testing.T) {
	t.Parallel()
	i, _ := startWithKeys(t)
	i.push(rotationText, nil)
	values := []string{"value-" + rand.Text(), "value-" + rand.Text()}
	i.setSecret("rotation", "ROTATED", values[0], true)
	id := i.queue("rotation", nil)
	i.release(func() { i.setSecret("rotation", "ROTATED", values[1], true) })
	i.ended(id)
	second := i.queue("rotation", nil)
	i.release(func() {})
	i.ended(second)
	for n, execution := range []string{id, second} {
		sum := sha256.Sum256([]byte(values[n]))
		want := "***\n" + hex.EncodeToString(sum[:]) + "  -\n"
		for _, node := range []string{"before", "after"} {
			if got := string(i.logs(execution, node)); got != want {
				t.Errorf("execution %d, %s says %q, want %q", n+1, node, got, want)
			}
		}
	}
	s := newSinks(i)
	s.collect(id, 0)
	for _, value := range values {
		if told := s.find(value); len(told) > 0 {
			t.Errorf("a value is told in %q", told)
		}
	}
}

// release waits for the command that has made the file started, calls f, and lets the command go on.
func (i *installation) release(f func()) {
	i.t.Helper()
	started := ""
	eventually(i.t, func() error {
		err := filepath.WalkDir(filepath.Join(i.dir, "state"), func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.Name() == "started" && filepath.Base(filepath.Dir(path)) == "workspace" {
				started = path
			}
			return nil //nolint:nilerr // what vanishes meanwhile is not it
		})
		if started == "" {
			return fmt.Errorf("no command has started: %w", context.DeadlineExceeded)
		}
		return err
	})
	f()
	if err := os.Remove(started); err != nil {
		i.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(started), "go"), nil, 0o600); err != nil {
		i.t.Fatal(err)
	}
}
