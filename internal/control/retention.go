package control

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"foundry/internal/errs"
	"foundry/internal/lifecycle"
	"foundry/internal/retention"
)

// Times of the loop that purges.
const (
	purgeEvery = time.Hour
	purgeRetry = 5 * time.Minute
)

// Retention is what the loop needs that takes away what is old.
type Retention struct {
	Purger  *retention.Purger
	Days    int // 0: history is kept for ever; other rows are swept all the same
	Metrics *RetentionMetrics
}

// RetentionMetrics count what was taken away. Safe for concurrent use.
type RetentionMetrics struct {
	rounds     *prometheus.CounterVec
	days       prometheus.Counter
	executions prometheus.Counter
	swept      *prometheus.CounterVec
	kept       prometheus.Gauge
}

// NewRetentionMetrics returns the counters; a nil registerer registers nothing.
func NewRetentionMetrics(r prometheus.Registerer) *RetentionMetrics {
	m := &RetentionMetrics{
		rounds: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "foundry_retention_rounds_total", Help: "Rounds that take away what is old, by outcome: ok, error, or busy when another process purged.",
		}, []string{"outcome"}),
		days:       prometheus.NewCounter(prometheus.CounterOpts{Name: "foundry_retention_days_dropped_total", Help: "Days of history that were dropped."}),
		executions: prometheus.NewCounter(prometheus.CounterOpts{Name: "foundry_retention_executions_deleted_total", Help: "Executions that were deleted with their days."}),
		swept: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "foundry_retention_rows_swept_total", Help: "Other rows that were deleted because their time had passed, by kind.",
		}, []string{"kind"}),
		kept: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "foundry_retention_days_kept", Help: "Days that are older than they need be kept, but for an execution that lives or is needed yet.",
		}),
	}
	if r != nil {
		r.MustRegister(m.rounds, m.days, m.executions, m.swept, m.kept)
	}
	return m
}

// run purges hourly until ctx ends, and sooner after a failure.
func (r *Retention) run(ctx context.Context, l *Loops) {
	for {
		pause := purgeEvery
		if err := r.round(ctx); err != nil {
			if ctx.Err() != nil {
				return
			}
			pause = purgeRetry
			l.Logger.Warn().Err(err).Dur("pause", pause).Msg("taking away what is old failed; trying again")
		}
		if !lifecycle.Sleep(ctx, pause+rand.N(pause/10)) { //nolint:gosec // jitter
			return
		}
	}
}

// round purges once. That somebody else does is no error.
func (r *Retention) round(ctx context.Context) error {
	report, err := r.Purger.Purge(ctx, retention.Options{Days: r.Days})
	outcome := "ok"
	switch {
	case errs.Is(err, retention.Busy):
		outcome, err = "busy", nil
	case err != nil:
		outcome = "error"
	default:
		r.Metrics.kept.Set(float64(len(report.Kept)))
	}
	r.Metrics.rounds.WithLabelValues(outcome).Inc()
	for i := range report.Gone {
		r.Metrics.days.Inc()
		r.Metrics.executions.Add(float64(report.Gone[i].Executions))
	}
	for _, s := range report.Swept {
		r.Metrics.swept.WithLabelValues(s.Kind).Add(float64(s.Rows))
	}
	return err
}
