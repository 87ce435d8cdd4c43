package workflow

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"foundry/internal/errs"
	"foundry/internal/pgtest"
	"foundry/internal/postgres"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// versions is a workflow with versions, whose texts differ in size, and what is sent to read them.
type versions struct {
	*Store
	statements *pgtest.Statements
	workflow   uuid.UUID
}

func storedVersions(t testing.TB, texts ...string) versions {
	t.Helper()
	statements := new(pgtest.Statements)
	pool := pgtest.Open(t, pgtest.Database(t), postgres.Options{Tracer: statements})
	organization, _ := pgtest.Workflow(t, pool)
	store := NewStore(pool)
	w, err := store.Create(t.Context(), CreateParams{OrganizationID: organization, Slug: "w", Name: "W", Source: texts[0]})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range texts[1:] {
		if _, err := store.AddVersion(t.Context(), VersionParams{WorkflowID: w.ID, OrganizationID: organization, Name: "W", Source: text}); err != nil {
			t.Fatal(err)
		}
	}
	return versions{store, statements, w.ID}
}

func (v versions) reads() int { return v.statements.Count("VersionGet") }

// size is the sum of what is kept, in bytes of text.
func (d *Definitions) size() (sum int) {
	for _, one := range d.kept {
		sum += one.size
	}
	return sum
}

// text is a workflow of a size at least.
func text(name string, size int) string {
	head := "name: " + name + "\nnodes:\n  a:\n    run: echo\n"
	return head + "#" + strings.Repeat("x", max(0, size-len(head)-1))
}

func TestDefinitionsAreCompiledOnce(t *testing.T) {
	t.Parallel()
	stored := storedVersions(t, text("one", 0), text("two", 0))
	d := NewDefinitions(stored.Store)
	var first [2]*Definition
	for range 3 {
		for i, name := range []string{"one", "two"} {
			def, err := d.Get(t.Context(), stored.workflow, i+1)
			if err != nil || def.Name != name {
				t.Fatalf("version %d is %+v (%v)", i+1, def, err)
			}
			if first[i] == nil {
				first[i] = def
			}
			if def != first[i] {
				t.Errorf("version %d was compiled again", i+1)
			}
		}
	}
	if n := stored.reads(); n != 2 {
		t.Errorf("%d reads, want one for each version", n)
	}
	// The same number of another workflow is another version.
	if _, err := d.Get(t.Context(), uuid.New(), 1); !errs.Is(err, errs.NotFound) {
		t.Errorf("a version that does not exist: %v", err)
	}
}

func TestDefinitionsStayBounded(t *testing.T) {
	t.Parallel()
	const large = 10_000
	stored := storedVersions(t, text("one", large), text("two", large), text("three", large), text("four", large))
	for name, limit := range map[string]struct{ most, mostOf, want int }{
		"by number": {2, 1 << 20, 2}, "by size": {100, 3 * large, 3}, "by a size that none fits": {100, 1, 1},
	} {
		d := NewDefinitions(stored.Store)
		d.most, d.mostOf = limit.most, limit.mostOf
		for range 2 {
			for number := 1; number <= 4; number++ {
				if _, err := d.Get(t.Context(), stored.workflow, number); err != nil {
					t.Fatal(err)
				}
				before := stored.reads()
				if _, err := d.Get(t.Context(), stored.workflow, number); err != nil || stored.reads() != before {
					t.Errorf("%s: the newest is not kept (%v)", name, err)
				}
				if size := d.size(); len(d.kept) > limit.want || size != d.keptOf {
					t.Errorf("%s: %d are kept, want at most %d; %d bytes, counted %d", name, len(d.kept), limit.want, size, d.keptOf)
				}
			}
		}
		if len(d.kept) != limit.want {
			t.Errorf("%s: %d are kept, want %d", name, len(d.kept), limit.want)
		}
	}
}

func TestDefinitionsKeepNoFailure(t *testing.T) {
	t.Parallel()
	stored := storedVersions(t, "nodes: [")
	d := NewDefinitions(stored.Store)
	for range 2 {
		_, err := d.Get(t.Context(), stored.workflow, 1)
		if !errs.Is(err, errs.Validation) || !strings.HasPrefix(err.Error(), "The text of version 1 cannot be read by this release of Foundry.") {
			t.Errorf("a text that does not compile: %v", err)
		}
	}
	if n := stored.reads(); n != 2 || len(d.kept) != 0 {
		t.Errorf("%d reads and %d kept, want 2 and 0", n, len(d.kept))
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Get(ended, stored.workflow, 1); err == nil || errs.Is(err, errs.Validation) {
		t.Errorf("a read that fails is not told from a text that does not compile: %v", err)
	}
}

// TestDefinitionsAreSharedConcurrently is for the race detector, and holds that what is counted stays right when many miss at once.
func TestDefinitionsAreSharedConcurrently(t *testing.T) {
	t.Parallel()
	stored := storedVersions(t, text("one", 100), text("two", 200), text("three", 300))
	d := NewDefinitions(stored.Store)
	d.most = 2
	var all sync.WaitGroup
	for i := range 30 {
		all.Go(func() {
			if _, err := d.Get(t.Context(), stored.workflow, i%3+1); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if size := d.size(); len(d.kept) > 2 || size != d.keptOf {
		t.Errorf("%d kept of %d bytes, counted %d", len(d.kept), d.size(), d.keptOf)
	}
}

// BenchmarkDefinitions reads one version of a workflow of 20 nodes: as each request would without what is kept, and with it.
func BenchmarkDefinitions(b *testing.B) {
	source := "name: bench\nnodes:\n"
	for i := range 20 {
		source += fmt.Sprintf("  n%d:\n    run: echo $X\n    env: { X: \"${{ inputs.x }}\" }\n    if: ${{ success() }}\n", i)
	}
	source = strings.Replace(source, "nodes:", "inputs:\n  x: { type: string }\nnodes:", 1)
	stored := storedVersions(b, source)
	for name, of := range map[string]func(*Definitions) *Definitions{
		"each time": func(d *Definitions) *Definitions { return NewDefinitions(d.store) },
		"kept":      func(d *Definitions) *Definitions { return d },
	} {
		b.Run(name, func(b *testing.B) {
			d := NewDefinitions(stored.Store)
			for b.Loop() {
				if _, err := of(d).Get(b.Context(), stored.workflow, 1); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
