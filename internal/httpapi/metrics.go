package httpapi

import (
	"context"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"

	"foundry/internal/execution"
)

// metrics are those of the HTTP server, and the registry that /metrics shows. Safe for concurrent use.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.HistogramVec
	problems *prometheus.CounterVec
}

func newMetrics(registry *prometheus.Registry, figures *gauges) *metrics {
	m := &metrics{
		registry: registry,
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "foundry_http_request_duration_seconds", Help: "Time to answer, streams excepted, by route pattern.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"method", "route", "status"}),
		problems: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "foundry_http_problems_total", Help: "Requests answered with a problem, by its code.",
		}, []string{"code"}),
	}
	registry.MustRegister(m.requests, m.problems, figures)
	return m
}

// observe measures one request. Routes that are not ours share one label, or a scanner would fill the memory.
func (m *metrics) observe(c echo.Context, took time.Duration) {
	if c.Response().Header().Get(echo.HeaderContentType) == "text/event-stream" {
		return
	}
	route, method := c.Path(), c.Request().Method
	if route == "" || !knownMethod(method) {
		route, method = "other", "other"
	}
	m.requests.WithLabelValues(method, route, strconv.Itoa(c.Response().Status)).Observe(took.Seconds())
}

func knownMethod(method string) bool {
	return method == "GET" || method == "POST" || method == "HEAD"
}

// handler answers GET /metrics.
func (m *metrics) handler() echo.HandlerFunc {
	return echo.WrapHandler(promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
}

// gauges are figures that are read from the database when they are asked for, so they are right whichever
// process is asked.
type gauges struct {
	machines *store
	timeout  time.Duration // of one scrape
	log      zerolog.Logger

	up, depth, oldest, blocked, executions, workers, sandboxes *prometheus.Desc
}

func newGauges(machines *store, timeout time.Duration, log zerolog.Logger) *gauges {
	return &gauges{
		machines: machines, timeout: timeout, log: log,
		up:         prometheus.NewDesc("foundry_database_up", "1 if the database answered this scrape; without it the figures below are absent.", nil, nil),
		depth:      prometheus.NewDesc("foundry_queue_depth", "Executions that are ready and unheld.", nil, nil),
		oldest:     prometheus.NewDesc("foundry_queue_oldest_wait_seconds", "How long the one that has waited longest has waited.", nil, nil),
		blocked:    prometheus.NewDesc("foundry_executions_blocked", "Queued executions that their concurrency group has no room for.", nil, nil),
		executions: prometheus.NewDesc("foundry_executions", "Executions that have not ended, by status.", []string{"status"}, nil),
		workers:    prometheus.NewDesc("foundry_workers_active", "Workers that take work.", nil, nil),
		sandboxes:  prometheus.NewDesc("foundry_sandboxes", "Sandboxes that exist, by the state of their rows.", []string{"state"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (g *gauges) Describe(descriptions chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{g.up, g.depth, g.oldest, g.blocked, g.executions, g.workers, g.sandboxes} {
		descriptions <- d
	}
}

// Collect implements prometheus.Collector, whose interface has no context.
func (g *gauges) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), g.timeout)
	defer cancel()
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	f, err := g.machines.Figures(ctx)
	if err != nil {
		g.log.Error().Err(err).Msg("reading figures for metrics failed")
		gauge(g.up, 0)
		return
	}
	gauge(g.up, 1)
	gauge(g.depth, float64(f.QueueDepth))
	gauge(g.oldest, f.QueueOldest.Seconds())
	gauge(g.blocked, float64(f.Blocked))
	gauge(g.workers, float64(f.ActiveWorkers))
	for _, state := range sandboxStates() {
		gauge(g.sandboxes, float64(f.Sandboxes[state]), state)
	}
	for _, status := range execution.Statuses() {
		if !status.Terminal() {
			gauge(g.executions, float64(f.Executions[status]), string(status))
		}
	}
}

// sandboxStates are those of sandboxes that exist.
func sandboxStates() []string {
	return []string{"creating", "ready", "starting", "stopping", "stopped", "kept", "destroying"}
}
