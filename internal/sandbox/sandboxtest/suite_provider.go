package sandboxtest

import (
	"context"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"foundry/internal/errs"
	"foundry/internal/sandbox"
)

func testCreateTwice(t *testing.T, h Harness) {
	spec := sandbox.Spec{ID: uuid.New(), Labels: map[string]string{sandbox.LabelSandbox: uuid.NewString()}}
	ids, states := make([]string, 6), make([]sandbox.State, 6)
	var group errgroup.Group
	for i := range ids {
		group.Go(func() error {
			info, err := h.Provider.Create(t.Context(), spec)
			ids[i], states[i] = info.ProviderID, info.State
			return err
		})
	}
	noError(t, group.Wait())
	t.Cleanup(func() { noError(t, h.Provider.Destroy(context.WithoutCancel(t.Context()), ids[0])) })
	for i, id := range ids {
		equal(t, "the provider's id", id, ids[0])
		if states[i] != sandbox.Ready && states[i] != sandbox.Creating {
			t.Fatalf("a new sandbox is %s", states[i])
		}
	}
	info := ready(t, h.Provider, ids[0])
	equal(t, "our id", info.ID, spec.ID)
	listed, err := h.Provider.List(t.Context(), spec.Labels)
	noError(t, err)
	equal(t, "sandboxes in the list", len(listed), 1)
}

func testUnknown(t *testing.T, h Harness) {
	id := uuid.NewString()
	_, err := h.Provider.Get(t.Context(), id)
	wantCode(t, err, errs.NotFound)
	noError(t, h.Provider.Destroy(t.Context(), id))
	_, err = h.Provider.Start(t.Context(), id)
	wantCode(t, err, errs.NotFound)
	wantCode(t, h.Provider.Stop(t.Context(), id), errs.NotFound)
	wantCode(t, h.Provider.SetExpiry(t.Context(), id, time.Hour), errs.NotFound)
	_, err = h.Provider.Get(t.Context(), "../../etc")
	wantCode(t, err, errs.NotFound)
}

func testList(t *testing.T, h Harness) {
	one, two := newBox(t, h), newBox(t, h)
	for _, b := range []*box{one, two} {
		equal(t, "the label", b.info.Labels[sandbox.LabelInstallation], t.Name())
	}
	listed, err := h.Provider.List(t.Context(), map[string]string{sandbox.LabelInstallation: t.Name()})
	noError(t, err)
	equal(t, "sandboxes in the list", len(listed), 2)
	listed, err = h.Provider.List(t.Context(), map[string]string{sandbox.LabelInstallation: t.Name(), "other": "x"})
	noError(t, err)
	equal(t, "sandboxes with both labels", len(listed), 0)
}

func testStop(t *testing.T, h Harness) {
	b := newBox(t, h)
	kept := path.Join(b.info.Workspace, "kept")
	noError(t, b.sb.PutFile(t.Context(), kept, strings.NewReader("still here"), 0o600))
	id := b.script("while :; do date +%N > beat; sleep 0.02; done")
	for range 2 {
		noError(t, h.Provider.Stop(t.Context(), b.info.ProviderID))
	}
	eventually(t, "the sandbox is stopped", func() bool {
		info, err := h.Provider.Get(t.Context(), b.info.ProviderID)
		noError(t, err)
		return info.State == sandbox.Stopped
	})
	_, err := b.sb.Run(t.Context(), sandbox.Command{Argv: []string{"true"}})
	wantCode(t, err, errs.Unavailable)
	for range 2 {
		_, err = h.Provider.Start(t.Context(), b.info.ProviderID)
		noError(t, err)
	}
	ready(t, h.Provider, b.info.ProviderID)
	content, err := b.sb.ReadFile(t.Context(), kept, 0, 100)
	noError(t, err)
	equal(t, "the file", string(content), "still here")
	state, err := b.shim.Seal(t.Context(), id)
	noError(t, err)
	if !state.Final() {
		t.Fatalf("the node run is %s in a sandbox that was stopped", state)
	}
}

func testDestroy(t *testing.T, h Harness) {
	b := newBox(t, h)
	mark := uniqueNumber()
	// Folders without permissions are what a module cache looks like, or worse.
	id := b.script("mkdir -p locked/in; touch locked/in/file; chmod 0500 locked/in; chmod 0 locked; echo ready; sleep " + mark)
	b.until(id, "ready")
	for range 2 {
		noError(t, h.Provider.Destroy(t.Context(), b.info.ProviderID))
	}
	eventually(t, "the sandbox is gone", func() bool {
		_, err := h.Provider.Get(t.Context(), b.info.ProviderID)
		return errs.Is(err, errs.NotFound)
	})
	if h.Here {
		noProcess(t, mark)
		noFile(t, b.info.ShimRoot)
	}
	_, err := b.sb.Run(t.Context(), sandbox.Command{Argv: []string{"true"}})
	wantCode(t, err, errs.NotFound)
	_, err = b.sb.ReadFile(t.Context(), path.Join(b.info.Workspace, "x"), 0, 1)
	wantCode(t, err, errs.NotFound)
}

func testDestroyLost(t *testing.T, h Harness) {
	if !h.Here {
		t.Skip("the supervisor is not a process of this machine")
	}
	b := newBox(t, h)
	mark := uniqueNumber()
	id := b.script("setsid sleep " + mark + " & echo up; wait")
	b.until(id, "up")
	killProcess(t, "supervise", b.shim.Dir(id))
	noError(t, h.Provider.Destroy(t.Context(), b.info.ProviderID))
	noProcess(t, mark)
}

func testEndedContext(t *testing.T, h Harness) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	spec := sandbox.Spec{ID: uuid.New(), Labels: map[string]string{sandbox.LabelSandbox: uuid.NewString()}}
	if _, err := h.Provider.Create(ctx, spec); err == nil {
		t.Fatal("create succeeded with an ended context")
	}
	listed, err := h.Provider.List(t.Context(), spec.Labels)
	noError(t, err)
	equal(t, "sandboxes in the list", len(listed), 0)
}

func testExpiry(t *testing.T, h Harness) {
	b := newBox(t, h)
	noError(t, h.Provider.SetExpiry(t.Context(), b.info.ProviderID, time.Hour))
	info, err := h.Provider.Get(t.Context(), b.info.ProviderID)
	noError(t, err)
	if left := time.Until(info.ExpiresAt); left <= 0 || left > time.Hour {
		t.Fatalf("it expires in %v", left)
	}
}
