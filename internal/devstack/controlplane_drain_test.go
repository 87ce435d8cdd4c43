package devstack

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"

	"foundry/internal/auth"
	"foundry/internal/execution"
	"foundry/internal/pgtest"
	"foundry/internal/postgres"
	"foundry/internal/queue"
)

// until waits for a condition that something else makes true.
func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for !condition() {
		select {
		case <-deadline:
			t.Fatalf("still waiting for %s", what)
		case <-ticker.C:
		}
	}
}

// leader is the backend that holds the lock of the control loops, or 0.
func leader(t *testing.T, pool *pgxpool.Pool) int {
	t.Helper()
	return pgtest.Get[int](t, pool, `SELECT COALESCE(min(pid), 0) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
		WHERE d.datname = current_database() AND locktype = 'advisory' AND granted AND (classid::bigint << 32 | objid::bigint) = 7042025002`)
}

// connections is how many control planes have for requests.
func connections(t *testing.T, pool *pgxpool.Pool) int {
	t.Helper()
	return pgtest.Get[int](t, pool, "SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'foundry serve'")
}

// TestControlPlaneLeaves ends a control plane that leads while a change that it was asked for waits for a row.
func TestControlPlaneLeaves(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool := pgtest.Open(t, database, postgres.Options{})
	organization, workflow := pgtest.Workflow(t, pool)
	token, err := auth.NewStore(pool).Create(t.Context(), organization, "test", 0)
	if err != nil {
		t.Fatal(err)
	}
	queued, err := queue.NewStore(pool, postgres.NewNotifier(pool, zerolog.Nop())).Enqueue(t.Context(), queue.Request{
		OrganizationID: organization, WorkflowID: workflow, Version: 1, Source: execution.FromAPI, Inputs: []byte(`{}`), QueueTimeout: time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	var running sync.WaitGroup
	running.Go(func() {
		ended <- ControlPlane{DatabaseURL: database, DirectURL: database, Listener: listener, Log: zerolog.New(&log), Drain: time.Minute}.Run(ctx)
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	until(t, "a leader", func() bool { return leader(t, pool) != 0 })
	first := leader(t, pool)

	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.WithoutCancel(t.Context()))
	if _, err := tx.Exec(t.Context(), "SET LOCAL idle_in_transaction_session_timeout = 0"); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "SELECT FROM executions WHERE id = $1 FOR UPDATE", queued.ID); err != nil {
		t.Fatal(err)
	}
	answered := make(chan int, 1)
	running.Go(func() { answered <- cancelExecution(t, listener.Addr().String(), queued.ID, token.Reveal()) })
	until(t, "the change to wait for its row", func() bool {
		return pgtest.Get[int](t, pool, "SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") == 1
	})
	cancel()
	until(t, "the lock to be given back", func() bool { return leader(t, pool) != first })
	select {
	case status := <-answered:
		t.Fatalf("the change was answered with %d while its row was locked", status)
	case err := <-ended:
		t.Fatalf("the control plane did not wait for the change: %v", err)
	default:
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if status := <-answered; status/100 != 2 {
		t.Errorf("the change was answered with %d", status)
	}
	if err := <-ended; err != nil {
		t.Errorf("the control plane: %v", err)
	}
	until(t, "its connections to be closed", func() bool { return connections(t, pool) == 0 })
	controlPlane(t, database)
	until(t, "another leader", func() bool { return leader(t, pool) != 0 })
	if status := pgtest.Get[string](t, pool, "SELECT status FROM executions WHERE id = $1", queued.ID); status != "canceled" {
		t.Errorf("the execution is %s", status)
	}
	checkDeparture(t, log.Bytes())
}

// cancelExecution asks for the end of an execution, and returns the answer's status.
func cancelExecution(t *testing.T, address string, id uuid.UUID, token string) int {
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+"/api/v1/executions/"+id.String()+"/cancel", nil)
	if err != nil {
		t.Error(err)
		return 0
	}
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer response.Body.Close()
	return response.StatusCode
}

// checkDeparture holds that a log has one record of a departure with a request in flight.
func checkDeparture(t *testing.T, log []byte) {
	t.Helper()
	found := 0
	for line := range bytes.Lines(log) {
		var record map[string]any
		if err := json.Unmarshal(line, &record); err != nil {
			t.Fatal(err)
		}
		if record["message"] != "control plane has left" {
			continue
		}
		found++
		for key, want := range map[string]float64{"requests": 1, "refused": 0, "streams": 0, "cut": 0, "notice_ms": 0} {
			if record[key] != want {
				t.Errorf("%s is %v, want %v", key, record[key], want)
			}
		}
		var sum float64
		for _, key := range []string{"notice_ms", "finish_ms", "services_ms", "pool_ms"} {
			took, ok := record[key].(float64)
			if !ok {
				t.Errorf("%s is %v", key, record[key])
			}
			sum += took
		}
		total, ok := record["total_ms"].(float64)
		if !ok || sum > total {
			t.Errorf("phases of %v ms are more than the whole of %v", sum, record["total_ms"])
		}
		// That the lock is free before the request is answered is seen in the database: its holder may note the time later.
		if unlock, ok := record["unlock_ms"].(float64); !ok || unlock > total {
			t.Errorf("the lock was given back after %v ms of %v", record["unlock_ms"], total)
		}
		if record["cause"] != context.Canceled.Error() {
			t.Errorf("cause is %v", record["cause"])
		}
	}
	if found != 1 {
		t.Errorf("%d records of the departure:\n%s", found, log)
	}
}
