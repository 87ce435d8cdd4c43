package stream

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"foundry/internal/event"
	"foundry/internal/execution"
)

// nextSummaries returns what a list's stream sends next.
func nextSummaries(t testing.TB, w *OrganizationWatch) (frames [][]byte, reset bool) {
	t.Helper()
	deadline := time.After(wait)
	for {
		frames, reset, changed, err := w.Poll()
		if err != nil {
			t.Fatal(err)
		}
		if len(frames) > 0 || reset {
			return frames, reset
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatal("nothing came")
		}
	}
}

func (b *testBundle) list(t testing.TB, h *Hub, organizationID uuid.UUID) *OrganizationWatch {
	t.Helper()
	w, err := h.WatchOrganization(t.Context(), organizationID)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

func decodeSummary(t testing.TB, frame []byte) (s Summary) {
	t.Helper()
	data, ok := strings.CutPrefix(string(frame), "event: execution.summary\ndata: ")
	if !ok || !strings.HasSuffix(data, "}\n\n") {
		t.Fatalf("not a summary: %q", frame)
	}
	if err := json.Unmarshal([]byte(data), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestOrganizationWatch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ours, workflowID := b.organization(t)
	theirs, _ := b.organization(t)

	t.Run("gets summaries of its own executions", func(t *testing.T) {
		t.Parallel()
		h := b.hub(t, never)
		first, second, foreign := b.list(t, h, ours), b.list(t, h, ours), b.list(t, h, theirs)
		b.tracer.take()
		x := b.executionOf(t, workflowID)
		h.Nudge(x.id)
		for _, w := range []*OrganizationWatch{first, second} {
			frames, reset := nextSummaries(t, w)
			if reset || len(frames) != 1 {
				t.Fatalf("got %d summaries, reset %v", len(frames), reset)
			}
			s := decodeSummary(t, frames[0])
			e := s.Execution
			if s.ID != x.id || e.ID != x.id || s.Version != 1 || e.Status != execution.Running || e.Workflow != "demo" || e.Source != execution.FromAPI ||
				e.Version != 1 || e.Number < 1 || e.QueuedAt.IsZero() || e.FinishedAt != nil {
				t.Errorf("summary %+v", s)
			}
		}
		if frames, reset, _, err := foreign.Poll(); err != nil || reset || len(frames) > 0 {
			t.Errorf("another organization got %q, %v, %v", frames, reset, err)
		}
		h.Nudge(x.id) // nothing has changed
		last := x.add(t, record{kind: event.ExecutionCompleted})
		h.Nudge(x.id)
		frames, _ := nextSummaries(t, first)
		if s := decodeSummary(t, frames[0]); s.Version != last || s.Execution.Status != execution.Completed || s.Execution.FinishedAt == nil {
			t.Errorf("summary %+v, want version %d", s, last)
		}
	})

	t.Run("works without notifications", func(t *testing.T) {
		t.Parallel()
		h := b.hub(t, 20*time.Millisecond)
		organizationID, workflowID := b.organization(t)
		old := b.executionOf(t, workflowID)
		w := b.list(t, h, organizationID)
		before := old.add(t, repeat(1)...)
		frames, _ := nextSummaries(t, w)
		if s := decodeSummary(t, frames[0]); s.ID != old.id || s.Version != before {
			t.Errorf("summary %+v of one that was there", s)
		}
		x := b.executionOf(t, workflowID)
		frames, _ = nextSummaries(t, w)
		if s := decodeSummary(t, frames[0]); s.ID != x.id {
			t.Errorf("summary %+v of a new one", s)
		}
	})

	t.Run("is silent while nothing changes", func(t *testing.T) {
		t.Parallel()
		organizationID, workflowID := b.organization(t)
		b.executionOf(t, workflowID)
		h := b.hub(t, never)
		w := b.list(t, h, organizationID)
		for range 2 {
			if err := h.checkOnce(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		h.mu.Lock()
		dirty := len(h.throttle.dirty)
		h.mu.Unlock()
		if frames, reset, _, err := w.Poll(); dirty > 0 || err != nil || reset || len(frames) > 0 {
			t.Errorf("got %q, reset %v, %v; %d to read", frames, reset, err, dirty)
		}
	})

	t.Run("is forgotten when it closes", func(t *testing.T) {
		t.Parallel()
		h := b.hub(t, never)
		w := b.list(t, h, ours)
		w.Close()
		w.Close()
		h.Nudge(uuid.New())
		h.mu.Lock()
		defer h.mu.Unlock()
		if len(h.organizations) > 0 || len(h.throttle.dirty) > 0 {
			t.Errorf("%d organizations, %d executions are kept", len(h.organizations), len(h.throttle.dirty))
		}
	})

	t.Run("ends with the hub", func(t *testing.T) {
		t.Parallel()
		h, stop := b.stoppableHub(t, never)
		w := b.list(t, h, ours)
		_, _, changed, _ := w.Poll()
		stop()
		<-changed
		if _, _, _, err := w.Poll(); !errors.Is(err, ErrStopped) {
			t.Errorf("Poll() = %v, want ErrStopped", err)
		}
	})
}

func TestOrganizationWatchIsBounded(t *testing.T) {
	t.Parallel()
	w := &OrganizationWatch{
		hub: &Hub{metrics: newMetrics(nil)}, changed: make(chan struct{}), pending: make(map[uuid.UUID][]byte),
	}
	id := uuid.New()
	for i := range 3 * pendingMax {
		w.push(id, fmt.Append(nil, i))
	}
	frames, reset, _, err := w.Poll()
	if diff := cmp.Diff([][]byte{[]byte("2999")}, frames); diff != "" || reset || err != nil {
		t.Errorf("one execution: %s, reset %v, %v", diff, reset, err)
	}
	for range pendingMax + 1 {
		w.push(uuid.New(), nil)
	}
	if frames, reset, _, err := w.Poll(); len(frames) > 0 || !reset || err != nil {
		t.Errorf("too many executions: %d summaries, reset %v, %v", len(frames), reset, err)
	}
	if frames, reset, _, _ := w.Poll(); len(frames) > 0 || reset {
		t.Errorf("then: %d summaries, reset %v", len(frames), reset)
	}
}
