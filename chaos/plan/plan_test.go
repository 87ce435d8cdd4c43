package plan_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"foundry/chaos/plan"
	"foundry/internal/workflow"
)

func shape() plan.Shape {
	return plan.Shape{Nodes: 7, Duration: 3 * time.Second, Parking: true, Groups: true, Fans: true, Calls: true, Files: true}
}

func TestSeedsMakeWorkflows(t *testing.T) {
	t.Parallel()
	kinds, depths := map[plan.Kind]int{}, map[int]int{}
	leave, save := 0, 0
	secrets, matrices, repeats, conflicts := 0, 0, 0, map[plan.Conflict]int{}
	for n := range 400 {
		w := plan.New(7, n, shape())
		for i := range w.Nodes {
			kinds[w.Nodes[i].Kind]++
			leave += len(w.Nodes[i].Leaves)
			save += w.Nodes[i].Checkpoints()
			if w.Nodes[i].Fan.Matrix() {
				matrices++
			} else if w.Nodes[i].Fan.Fans() {
				repeats++
			}
			if w.Nodes[i].Secret {
				secrets++
			}
		}
		if again := plan.New(7, n, shape()); cmp.Diff(w, again) != "" {
			t.Fatalf("one seed makes two workflows:\n%s", cmp.Diff(w, again))
		}
		depths[w.Depth]++
		if w.Depth > 0 && w.Group != nil {
			t.Fatalf("workflow %d calls others and is in a group", n)
		}
		if w.Group != nil {
			conflicts[w.Group.Conflict]++
		}
		text := w.Text(plan.Place{Ledger: "/ledger", Volume: "ledger"})
		if _, diagnostics := workflow.Compile([]byte(text)); diagnostics.Failed() {
			t.Fatalf("workflow %d does not compile: %v\n%s", n, diagnostics, text)
		}
		if w.Secret != "" && strings.Contains(text, w.Secret) {
			t.Fatalf("workflow %d has its secret in its text", n)
		}
	}
	for _, kind := range []plan.Kind{
		plan.Steady, plan.Burst, plan.Odd, plan.Flaky, plan.Broken, plan.Stuck, plan.Full, plan.Set, plan.Approval, plan.Wait, plan.Call,
	} {
		if kinds[kind] == 0 {
			t.Errorf("no node is %s", kind)
		}
	}
	for _, conflict := range []plan.Conflict{plan.Queue, plan.Replace, plan.Refuse} {
		if conflicts[conflict] == 0 {
			t.Errorf("no workflow has a group with %s", conflict)
		}
	}
	if depths[1] == 0 || depths[2] == 0 || len(depths) != 3 {
		t.Errorf("the depths of calls are %v", depths)
	}
	if leave == 0 || save == 0 {
		t.Errorf("there are %d artifacts and %d checkpoints", leave, save)
	}
	if secrets == 0 || matrices == 0 || repeats == 0 {
		t.Errorf("%d nodes print a secret, %d have a matrix and %d a repeat", secrets, matrices, repeats)
	}
	if other := plan.New(8, 0, shape()); cmp.Equal(other, plan.New(7, 0, shape())) {
		t.Error("two seeds make the same workflow")
	}
	for n := range 100 {
		w := plan.New(7, n, plan.Shape{Nodes: 7, Duration: time.Second})
		if slices.ContainsFunc(w.Nodes, func(n plan.Node) bool { return n.Kind == plan.Approval || n.Kind == plan.Wait }) {
			t.Fatalf("a shape without parking has %s", &w)
		}
	}
}

// TestCommandsWriteWhatIsExpected runs a command of each kind without Foundry, so that a difference found later is Foundry's.
func TestCommandsWriteWhatIsExpected(t *testing.T) {
	t.Parallel()
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip(err)
	}
	for name, c := range map[string]struct {
		node  plan.Node
		codes []int // of one run after the other in one workspace
		index int   // of all
	}{
		"steady": {plan.Node{Kind: plan.Steady, Lines: 7, Padding: 3, Pause: time.Millisecond}, []int{0}, 0},
		"burst":  {plan.Node{Kind: plan.Burst, Lines: 700, Padding: 80}, []int{0}, 0},
		"odd":    {plan.Node{Kind: plan.Odd, Lines: 3}, []int{0}, 0},
		"secret": {plan.Node{Kind: plan.Steady, Lines: 1, Secret: true}, []int{0}, 0},
		"flaky":  {plan.Node{Kind: plan.Flaky, Lines: 1, Fails: 2, ExitCode: 9}, []int{9, 9, 0}, 0},
		"broken": {plan.Node{Kind: plan.Broken, Lines: 1, ExitCode: 5}, []int{5}, 0},
		"full":   {plan.Node{Kind: plan.Full, Lines: 1}, []int{28}, 0},
		"matrix": {plan.Node{Kind: plan.Steady, Lines: 3, Fan: plan.Fan{Rows: 2, Columns: 3, MaxParallel: 1}}, []int{0}, 4},
		"files": {plan.Node{
			Kind: plan.Steady, Lines: 7, Saves: 3, Leaves: []plan.File{{"a0", 1_500_000}, {"some/where/a1", 7}, {"a2", 0}}, Fan: plan.Fan{Rows: 2, Columns: 1, MaxParallel: 1},
		}, []int{0}, 1},
		"repeat":             {plan.Node{Kind: plan.Flaky, Lines: 1, Fails: 1, ExitCode: 2, Fan: plan.Fan{Times: 9, Until: -1}}, []int{2, 0}, 3},
		"the broken one":     {plan.Node{Kind: plan.Broken, Lines: 1, ExitCode: 5, FailsAt: 1, Fan: plan.Fan{Times: 3, Until: 2}}, []int{5}, 1},
		"not the broken one": {plan.Node{Kind: plan.Broken, Lines: 1, ExitCode: 5, FailsAt: 1, Fan: plan.Fan{Times: 3, Until: 2}}, []int{0}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			node := c.node
			node.Key = "n0"
			ledger, dir := t.TempDir(), t.TempDir()
			out, stderr := node.Output(c.index)
			if err := os.Mkdir(filepath.Join(dir, "checkpoints"), 0o700); err != nil {
				t.Fatal(err)
			}
			for i, code := range c.codes {
				_ = os.Remove(filepath.Join(dir, "output")) // there is none at first
				cmd := exec.CommandContext(t.Context(), bash, "-eo", "pipefail", "-c", scriptOf(t, node))
				cmd.Dir = dir
				cmd.Env = []string{
					"PATH=/usr/bin:/bin", "FOUNDRY_NODE=n0", "FOUNDRY_INDEX=" + strconv.Itoa(c.index), "FOUNDRY_ATTEMPT=1", "FOUNDRY_EXECUTION_ID=e", "CHAOS_LEDGER=" + ledger,
					"FOUNDRY_ARTIFACTS=" + filepath.Join(dir, "artifacts"), "FOUNDRY_CHECKPOINTS=" + filepath.Join(dir, "checkpoints"),
					"FOUNDRY_OUTPUT=" + filepath.Join(dir, "output"), plan.SecretKey + "=" + plan.Masked,
					"LABEL=" + node.Label(c.index),
				}
				if c.index > 0 {
					cmd.Env = append(cmd.Env, "BEFORE="+node.Value(c.index-1))
				}
				var gotOut, gotErr bytes.Buffer
				cmd.Stdout, cmd.Stderr = &gotOut, &gotErr
				_ = cmd.Run() // the exit code says it
				if got := cmd.ProcessState.ExitCode(); got != code {
					t.Fatalf("run %d exits with %d, want %d: %s", i, got, code, &gotErr)
				}
				if diff := cmp.Diff(string(out), gotOut.String()); diff != "" {
					t.Errorf("stdout: -want +got\n%s", diff)
				}
				if diff := cmp.Diff(string(stderr), gotErr.String()); diff != "" {
					t.Errorf("stderr: -want +got\n%s", diff)
				}
				output, _ := os.ReadFile(filepath.Join(dir, "output")) // empty without one
				if want := "value=" + node.Value(c.index) + "\n"; (string(output) == want) != (code == 0) {
					t.Errorf("outputs %q", output)
				}
			}
			wants := map[string][]byte{}
			for _, f := range node.Leaves {
				wants["artifacts/"+f.Path] = node.Content(c.index, f)
			}
			for i := range node.Checkpoints() {
				name, content := node.Checkpoint(c.index, i+1)
				wants["checkpoints/"+name] = content
			}
			for name, want := range wants {
				if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s has %d bytes, want %d (%v)", name, len(got), len(want), err)
				}
			}
			notes, err := os.ReadFile(filepath.Join(ledger, "e"))
			if err != nil || strings.Count(string(notes), " begin ") != len(c.codes) || strings.Count(string(notes), " end ") != len(c.codes) {
				t.Errorf("the ledger: %v\n%s", err, notes)
			}
		})
	}
}

// scriptOf takes the script out of the text, as Foundry does.
func scriptOf(t *testing.T, node plan.Node) string {
	t.Helper()
	w := plan.Workflow{Slug: "one", Nodes: []plan.Node{node}, Output: node.Key}
	definition, diagnostics := workflow.Compile([]byte(w.Text(plan.Place{Ledger: "/ledger"})))
	if diagnostics.Failed() {
		t.Fatal(diagnostics)
	}
	return definition.Nodes[0].Script
}
