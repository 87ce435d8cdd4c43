package engine

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	firstNode      prometheus.Histogram
	ended          *prometheus.CounterVec
	sandboxCalls   *prometheus.CounterVec
	sandboxSeconds prometheus.Counter
	interruptions  prometheus.Counter
	redactions     prometheus.Counter

	artifacts        *prometheus.CounterVec
	artifactBytes    prometheus.Counter
	artifactsSkipped prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		firstNode: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "foundry_claim_to_first_node_seconds", Help: "From a claim to the durable start of the execution's first node.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 16),
		}),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "foundry_executions_ended_total", Help: "Executions that this worker brought to their end, by status.",
		}, []string{"status"}),
		sandboxCalls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "foundry_sandbox_calls_total", Help: "Calls that change a sandbox, by provider, call and outcome.",
		}, []string{"provider", "call", "outcome"}),
		sandboxSeconds: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "foundry_sandbox_seconds_total", Help: "Seconds from a sandbox being ready to its end, as this worker saw it.",
		}),
		interruptions: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "foundry_node_runs_interrupted_total", Help: "Node runs that ended because machinery died.",
		}),
		redactions: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "foundry_redactions_total", Help: "Runs of bytes that were masked in what commands print.",
		}),
		artifacts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "foundry_artifacts_stored_total", Help: "Artifacts and checkpoints that were stored, by kind.",
		}, []string{"kind"}),
		artifactBytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "foundry_artifact_bytes_total", Help: "Bytes of artifacts and checkpoints that were stored.",
		}),
		artifactsSkipped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "foundry_artifacts_skipped_total", Help: "Warnings about artifacts and checkpoints that were not kept.",
		}),
	}
	if r != nil {
		r.MustRegister(m.firstNode, m.ended, m.sandboxCalls, m.sandboxSeconds, m.interruptions, m.redactions, m.artifacts, m.artifactBytes, m.artifactsSkipped)
	}
	return m
}

// outcome is the label of a call's result.
func outcome(err error) string {
	if err != nil {
		return "error"
	}
	return "ok"
}
