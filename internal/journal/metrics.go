package journal

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	commitSeconds prometheus.Histogram
	batchSize     prometheus.Histogram
	retries       prometheus.Counter
	stale         prometheus.Counter
}

func newMetrics(r prometheus.Registerer) metrics {
	m := metrics{
		commitSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "foundry_journal_commit_seconds", Help: "From the first statement of a journal commit to its answer.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		}),
		batchSize: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "foundry_journal_batch_entries", Help: "Entries in one journal commit.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 12),
		}),
		retries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "foundry_journal_retries_total", Help: "Journal commits that were tried again.",
		}),
		stale: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "foundry_claims_lost_total", Help: "Entries that were refused because their claim was stale.",
		}),
	}
	if r != nil {
		r.MustRegister(m.commitSeconds, m.batchSize, m.retries, m.stale)
	}
	return m
}
