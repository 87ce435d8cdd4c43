package worker

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	claimWait prometheus.Histogram
	held      prometheus.Gauge
	drain     *prometheus.GaugeVec
}

func newMetrics(r prometheus.Registerer) metrics {
	m := metrics{
		claimWait: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "foundry_enqueue_to_claim_seconds", Help: "From an execution's place in the queue to its claim, by the database's clock.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 20),
		}),
		held: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "foundry_worker_held", Help: "Executions that this worker holds.",
		}),
		drain: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "foundry_worker_drain_seconds", Help: "Phases of the last time that the worker left: detach, flush, release, leave.",
		}, []string{"phase"}),
	}
	r.MustRegister(m.claimWait, m.held, m.drain)
	return m
}
