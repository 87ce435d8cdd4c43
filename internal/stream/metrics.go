package stream

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics are those of the streams. Safe for concurrent use.
type metrics struct {
	open   *prometheus.GaugeVec
	delay  prometheus.Histogram
	lagged prometheus.Counter
}

func newMetrics(registry prometheus.Registerer) *metrics {
	m := &metrics{
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "foundry_streams_open", Help: "Open event streams.",
		}, []string{"kind"}),
		delay: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "foundry_stream_delay_seconds", Help: "From an event's time to its write to a live stream.",
			Buckets: []float64{.001, .002, .005, .01, .02, .05, .1, .25, .5, 1, 2, 5, 10},
		}),
		lagged: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "foundry_streams_lagged_total", Help: "Streams that were too slow and told to resume.",
		}),
	}
	if registry != nil {
		registry.MustRegister(m.open, m.delay, m.lagged)
	}
	return m
}
