package worker

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// pingTimeout is how long the database has to answer whoever asks whether the worker is ready.
const pingTimeout = 3 * time.Second

// unready says in a sentence why the worker cannot do all there is to do; empty when it can.
func (w *Worker) unready(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	last := w.lease.last()
	switch {
	case w.drain.Load():
		return "The worker is leaving."
	case last.IsZero():
		return "The worker has not joined yet."
	case w.lease.left() <= 0:
		return "The worker cannot be sure of its lease: the database has not acknowledged a renewal for " +
			time.Since(last).Round(time.Second).String() + "."
	case w.Pool.Ping(ctx) != nil:
		return "The database cannot be reached."
	}
	return w.locked.why()
}

// serveHTTP answers the platform: whether the process is alive, whether it can do all there is to do, and its metrics.
func (w *Worker) serveHTTP(ctx context.Context) error {
	e := echo.New()
	e.GET("/healthz", func(c echo.Context) error { return c.String(http.StatusOK, "ok\n") })
	e.GET("/readyz", func(c echo.Context) error { //nolint:contextcheck // the request's context
		if why := w.unready(c.Request().Context()); why != "" {
			return c.String(http.StatusServiceUnavailable, why+"\n")
		}
		return c.String(http.StatusOK, "ready\n")
	})
	e.GET("/metrics", echo.WrapHandler(promhttp.HandlerFor(w.Registry, promhttp.HandlerOpts{})))
	server := &http.Server{Handler: e, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() {
		_ = server.Close() // answers are instant: there is nothing to drain
	})
	defer stop()
	if err := server.Serve(w.Listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving: %w", err)
	}
	return nil
}
