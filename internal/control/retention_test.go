package control

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"foundry/internal/pgtest"
	"foundry/internal/postgres"
	"foundry/internal/retention"
)

// withRetention lets a control plane purge.
func (b *testBundle) withRetention(l *Loops) *prometheus.Registry {
	b.t.Helper()
	registry := prometheus.NewRegistry()
	l.Retention = &Retention{
		Purger: retention.New(retention.Config{DirectURL: l.DirectURL, Log: zerolog.Nop(), Gentle: true}), Days: 30, Metrics: NewRetentionMetrics(registry),
	}
	return registry
}

// TestLeaderPurges holds that the leader drops old days, that a detach which waits for a reader holds up nothing else, and that the loops
// end all the same.
func TestLeaderPurges(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.withRetention(b.one)
	old := pgtest.Get[time.Time](t, b.pool, "SELECT (now() AT TIME ZONE 'UTC')::date - 40")
	pgtest.Exec(t, b.pool, "SELECT make_partitions($1)", old)
	reader, err := b.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reader.Rollback(t.Context()) }()
	// It stays for as long as the test wants, and not until the pool's limit for an idle transaction.
	for _, sql := range []string{"SET LOCAL idle_in_transaction_session_timeout = 0", "SELECT FROM execution_events LIMIT 1"} {
		if _, err := reader.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	stop, ended := b.background(b.one.lead)
	detaching := func() bool {
		return pgtest.Get[bool](t, b.pool, "SELECT EXISTS (SELECT FROM pg_inherits WHERE inhdetachpending)")
	}
	await(t, "the detach to begin", detaching)
	b.awaitTimedOut(b.due())
	if !detaching() {
		t.Fatal("the detach did not wait for the reader: this test holds nothing")
	}
	if err := reader.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, "the day to be dropped", func() bool {
		return pgtest.Get[int](t, b.pool, "SELECT count(*) FROM pg_class WHERE relname LIKE '%' || $1", old.Format("_20060102")) == 0
	})
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestPurgesAreCounted(t *testing.T) {
	t.Parallel()
	b := setup(t)
	registry := b.withRetention(b.one)
	r := b.one.Retention
	old := pgtest.Get[time.Time](t, b.pool, "SELECT (now() AT TIME ZONE 'UTC')::date - 40")
	pgtest.Exec(t, b.pool, "SELECT make_partitions($1)", old)
	pgtest.Exec(t, b.pool, "INSERT INTO sign_in_failures VALUES ('x', now() - interval '2 days')")
	for range 2 {
		if err := r.round(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	other, err := postgres.Connect(t.Context(), b.one.DirectURL, "test")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close(t.Context())
	if _, err := other.Exec(t.Context(), "SELECT pg_advisory_lock(7042025003)"); err != nil {
		t.Fatal(err)
	}
	if err := r.round(t.Context()); err != nil {
		t.Errorf("while another purges: %v", err)
	}
	r.Purger = retention.New(retention.Config{DirectURL: pgtest.Empty(t), Log: zerolog.Nop()})
	if err := r.round(t.Context()); err == nil {
		t.Error("a purge of what has no tables says nothing")
	}
	want := map[string]float64{
		"foundry_retention_rounds_total ok": 2, "foundry_retention_rounds_total busy": 1, "foundry_retention_rounds_total error": 1,
		"foundry_retention_days_dropped_total": 1, "foundry_retention_executions_deleted_total": 0, "foundry_retention_rows_swept_total sign-in failures": 1,
		"foundry_retention_days_kept": 0,
	}
	if diff := cmp.Diff(want, counters(t, registry)); diff != "" {
		t.Errorf("counters (-want +got):\n%s", diff)
	}
}
