package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"foundry/api/client"
)

// stubborn starts a child; each tells when it gets TERM, as their sleeps do. With stop=yes the child takes its time to end, and then its parent
// does; with stop=no both go on.
const stubborn = `name: stubborn
inputs: { stop: { type: string, required: true } }
nodes:
  hold:
    env: { STOP: "${{ inputs.stop }}" }
    run: |
      report() { echo "$1 got TERM"; if [ "$STOP" = yes ]; then $2; echo "$1 ends"; exit 0; fi; }
      ( trap 'report child "sleep 0.5"' TERM; echo "child here"; while :; do sleep 0.05 || true; done ) &
      trap 'report parent wait' TERM
      echo "parent here"
      while :; do sleep 0.05 || true; done
  never:
    needs: [hold]
    run: echo never
`

func TestCancel(t *testing.T) {
	t.Parallel()
	i := start(t)
	i.push(stubborn, nil)
	tests := []struct {
		name, stop string
		says       []string
		saysNot    string
		exitCode   int
	}{
		{"a trap runs to its end", "yes", []string{"parent got TERM", "child got TERM", "child ends", "parent ends"}, "", 0},
		{"who ignores TERM is killed after 10 s", "no", []string{"parent got TERM", "child got TERM"}, "ends", 137},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			i := i.in(t)
			id := i.queue("stubborn", map[string]any{"stop": tt.stop})
			i.says(id, "hold", "parent here")
			i.says(id, "hold", "child here")
			sandbox := i.sandbox(id)
			if len(sandboxProcesses(t, sandbox)) == 0 {
				t.Fatal("the command's processes are not found")
			}
			follow := spawn(t, i.dir, i.client(), nil, "logs", id, "-f")
			if out := i.must("cancel", id); !strings.Contains(out, "is asked to end") {
				t.Errorf("cancel says %q", out)
			}
			// The stream ends with the terminal event; whatever lives now has outlived it.
			if code := follow.wait(); code != 0 {
				t.Errorf("logs -f ends with %d", code)
			}
			if left := sandboxProcesses(t, sandbox); len(left) > 0 {
				t.Errorf("after the end these processes live: %v", left)
			}
			if e := i.execution(id); e.Status != client.ExecutionStatusCanceled {
				t.Errorf("the execution is %s", e.Status)
			}
			out := string(i.logs(id, "hold"))
			for _, want := range tt.says {
				if !strings.Contains(out, want) {
					t.Errorf("the output lacks %q:\n%s", want, out)
				}
			}
			if tt.saysNot != "" && strings.Contains(out, tt.saysNot) {
				t.Errorf("the output has %q:\n%s", tt.saysNot, out)
			}
			for _, n := range i.nodes(id) {
				switch {
				case n.Key == "never" && n.Status == client.NodeStatusCompleted:
					t.Errorf("node never is %s", n.Status)
				case n.Key == "hold" && (n.Status != client.NodeStatusCanceled || n.ExitCode == nil || *n.ExitCode != tt.exitCode):
					t.Errorf("node hold is %s with exit code %v, want canceled with %d", n.Status, n.ExitCode, tt.exitCode)
				}
			}
		})
	}
}

// sandboxProcesses lists what runs for a user in a sandbox of package local: processes that carry its mark in
// their environment, without the shims that supervise.
func sandboxProcesses(t testing.TB, sandbox string) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, name := range files {
		environ, err := os.ReadFile(name)
		if err != nil || !strings.Contains(string(environ), "FOUNDRY_SANDBOX_ID="+sandbox) {
			continue // gone, or somebody else's
		}
		dir := filepath.Dir(name)
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || !alive(pid) {
			continue
		}
		command, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err != nil || strings.Contains(string(command), "/bin/shim-") {
			continue
		}
		found = append(found, fmt.Sprintf("%d %s", pid, strings.ReplaceAll(string(command), "\x00", " ")))
	}
	return found
}
