package httpapi

import (
	"net/http"
	"testing"

	"github.com/google/uuid"

	"foundry/internal/execution"
	"foundry/internal/httpapi/openapi"
)

// sandboxOf makes a row in a state.
func (b *testBundle) sandboxOf(t *testing.T, executionID uuid.UUID, state string) uuid.UUID {
	t.Helper()
	id := execution.NewID()
	b.exec(t, `INSERT INTO sandboxes (id, execution_id, provider, host, provider_id, state, claim) VALUES ($1, $2, 'local', 'h', 'p', $3, 1)`, id, executionID, state)
	return id
}

func TestSandboxesAreEndedByIntents(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.workflow(t, "hello")
	running, parked, ended := b.started(t, "hello"), b.started(t, "hello"), b.started(t, "hello")
	b.exec(t, "UPDATE executions SET status = 'waiting', parked_at = now() WHERE id = $1", parked)
	b.exec(t, "UPDATE executions SET status = 'completed', finished_at = now() WHERE id = $1", ended)
	for _, c := range []struct {
		name, state, action string
		of                  uuid.UUID
		want                string // "": refused
		recorded            int
	}{
		{"destroy one in use", "ready", "destroy", running, "", 0},
		{"destroy one that waits", "stopped", "destroy", parked, "", 0},
		{"destroy a kept one", "kept", "destroy", ended, "destroying", 1},
		{"destroy one that is being destroyed", "destroying", "destroy", ended, "destroying", 0},
		{"stop one in use", "ready", "stop", running, "", 0},
		{"stop one that is being made", "creating", "stop", parked, "", 0},
		{"stop one that waits", "ready", "stop", parked, "stopping", 1},
		{"stop a stopped one", "stopped", "stop", parked, "stopped", 0},
		{"stop a kept one", "kept", "stop", ended, "kept", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			id := b.sandboxOf(t, c.of, c.state)
			a := b.call(t, http.MethodPost, apiPrefix+"/sandboxes/"+id.String()+"/"+c.action, nil)
			want := c.want
			if want == "" {
				wantProblem(t, a, http.StatusConflict, "sandbox_in_use")
				want = c.state
			} else if s := decode[openapi.Sandbox](t, a, http.StatusAccepted); s.ID != id || string(s.State) != want || s.Workflow != "hello" {
				t.Errorf("the answer is %+v", s)
			}
			if n := b.count(t, "SELECT count(*) FROM sandboxes WHERE state = '"+want+"' AND id = '"+id.String()+"'"); n != 1 {
				t.Errorf("the row is not %s", want)
			}
			if n := b.count(t, "SELECT count(*) FROM audit_log WHERE action = 'sandbox."+c.action+"' AND target = '"+id.String()+"'"); n != c.recorded {
				t.Errorf("%d audit rows, want %d", n, c.recorded)
			}
			b.exec(t, "DELETE FROM sandboxes WHERE id = $1", id)
		})
	}
	gone := b.sandboxOf(t, ended, "kept")
	b.exec(t, "UPDATE sandboxes SET state = 'destroyed', ended_at = now() WHERE id = $1", gone)
	wantProblem(t, b.call(t, http.MethodPost, apiPrefix+"/sandboxes/"+gone.String()+"/destroy", nil), http.StatusNotFound, "not_found")
}

func TestSandboxesTellHowLongTheyWereUp(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.workflow(t, "hello")
	id := b.sandboxOf(t, b.started(t, "hello"), "ready")
	b.exec(t, "UPDATE sandboxes SET up_since = now() - interval '90 seconds', up_ms = 10000 WHERE id = $1", id)
	page := get[openapi.SandboxPage](t, b, apiPrefix+"/sandboxes")
	if len(page.Data) != 1 || page.Data[0].Seconds < 100 || page.Data[0].Seconds > 160 {
		t.Errorf("sandboxes %+v", page.Data)
	}
}
