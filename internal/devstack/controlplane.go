package devstack

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/rs/zerolog"

	"foundry/internal/auth"
	"foundry/internal/config"
	"foundry/internal/control"
	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/httpapi"
	"foundry/internal/lifecycle"
	"foundry/internal/postgres"
	"foundry/internal/queue"
	"foundry/internal/reconcile"
	"foundry/internal/retention"
	"foundry/internal/sandbox"
	"foundry/internal/secret"
	"foundry/internal/stream"
)

// poolSize of a control plane (protocols.md, 11).
const poolSize = 10

// listenName is the application_name of the one connection that a control plane listens on, by which they are counted.
const listenName = "foundry serve listen"

// ControlPlane is what a control plane needs.
type ControlPlane struct {
	DatabaseURL string
	DirectURL   string          // without a transaction pooler
	Keys        *secret.Keyring // nil: secrets can be neither set nor revealed
	RevealOff   bool            // the API answers no value
	QueuedMax   int             // executions of a workflow, where it does not say; 0: queue.DefaultQueuedMax
	Reads       int             // requests a second of a principal; 0: the default of package httpapi
	Writes      int             // and those that change something
	Listener    net.Listener
	Log         zerolog.Logger
	Version     string
	Environment string        // the installation's name; empty: production
	PublicURL   string        // without a slash at the end; empty: what requests say
	Lease       time.Duration // the workers'; 0: the default
	// Sandbox is how sandboxes are reached from here; the zero value: they are not, and are left to the workers.
	Sandbox config.Sandbox
	// RetentionDays is how long history is kept; 0: for ever.
	RetentionDays int
	// Drain is how long its HTTP server may take to end.
	Drain time.Duration
}

// Run answers HTTP and runs the control loops until ctx ends, and then leaves. It closes the listener. A schema that is
// not this program's is errs.Conflict.
func (c ControlPlane) Run(ctx context.Context) error {
	defer c.Listener.Close()
	pool, err := postgres.Open(ctx, c.DatabaseURL, postgres.Options{Name: "foundry serve", MaxConns: poolSize})
	if err != nil {
		return err
	}
	var d departure
	err = c.run(ctx, pool, &d)
	closing := time.Now()
	pool.Close()
	d.log(c.Log, context.Cause(ctx), closing)
	return err
}

// run is Run on a pool.
func (c ControlPlane) run(ctx context.Context, pool *pgxpool.Pool, d *departure) error {
	if err := postgres.CheckSchema(ctx, pool); err != nil {
		return err
	}
	secrets := secret.NewStore(pool, c.Keys)
	if err := secrets.CheckKeys(ctx); err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	hub, err := stream.New(stream.Config{
		Events: event.NewStore(pool), Executions: execution.NewStore(pool), Log: part(c.Log, "stream"), Registry: registry,
	})
	if err != nil {
		return err
	}
	accounts := auth.NewStore(pool)
	notifier := postgres.NewNotifier(pool, part(c.Log, "notifier"))
	executions := queue.NewStore(pool, notifier, queue.QueuedMax(c.QueuedMax))
	listener, err := postgres.Listen(ctx, postgres.ListenConfig{
		URL: c.DirectURL, Name: listenName, Log: part(c.Log, "listener"),
		Channels: []string{postgres.ChannelEvents, postgres.ChannelAccounts},
		OnNotify: func(n postgres.Notification) {
			hub.OnNotify(n)
			accounts.OnNotify(n)
		},
		OnReset: func() {
			hub.OnReset()
			accounts.OnReset()
		},
	})
	if err != nil {
		return err
	}
	server, err := httpapi.New(httpapi.Config{ //nolint:contextcheck // it reads what is embedded
		Pool: pool, Queue: executions, Hub: hub, Accounts: accounts, Keys: c.Keys, RevealOff: c.RevealOff, Log: part(c.Log, "http"),
		Registry: registry, Version: c.Version, Environment: c.Environment, PublicURL: c.PublicURL, DrainTimeout: c.Drain,
		Reads: rate(c.Reads, 2), Writes: rate(c.Writes, 4),
		Checks: []httpapi.Check{
			{Name: "schema", Run: func(ctx context.Context) error { return postgres.CheckSchema(ctx, pool) }},
			{Name: "listener", Run: listener.Check},
		},
	})
	if err != nil {
		return err
	}
	loops := control.New(control.Config{
		DirectURL: c.DirectURL, Queue: executions, Events: event.NewStore(pool), Lease: c.Lease, Logger: part(c.Log, "control"), Registerer: registry,
		Sandboxes: c.sandboxes(ctx, pool, secrets, registry), Retention: c.retention(registry),
	})
	above, below := lifecycle.NewGroup(ctx), lifecycle.NewGroup(context.WithoutCancel(ctx))
	below.Go("streams", hub.Run)
	below.Go("notifier", notifier.Run)
	below.Go("listener", listener.Run)
	above.Go("control", func(ctx context.Context) error {
		defer func() { d.unlocked = time.Now() }()
		return loops.Run(ctx)
	})
	above.Go("server", func(ctx context.Context) error { return server.Run(ctx, c.Listener) })
	// Requests in flight need what is below until they are answered: it ends behind them, unless it fails.
	failed := context.AfterFunc(below.Context(), func() { above.Stop(context.Cause(below.Context())) }) //nolint:contextcheck // it reads why it was called
	err = above.Wait()
	failed()
	d.server, d.answered = server.Drained(), time.Now()
	below.Stop(context.Cause(ctx))
	return errors.Join(err, below.Wait())
}

// rate allows a burst of some seconds' requests after a pause; 0 is the zero rate.
func rate(perSecond, seconds int) httpapi.Rate {
	return httpapi.Rate{PerSecond: float64(perSecond), Burst: perSecond * seconds}
}

// sandboxes prepares the reconciler; nil when sandboxes cannot be reached from here. That is no reason to answer no requests.
func (c ControlPlane) sandboxes(ctx context.Context, pool *pgxpool.Pool, secrets *secret.Store, registry prometheus.Registerer) *control.Sandboxes {
	if c.Sandbox.Kind == "" {
		return nil
	}
	log := part(c.Log, "sandboxes")
	provider, err := openSandboxes(ctx, c.Sandbox, log)
	if err != nil {
		log.Warn().Err(err).Msg("sandboxes cannot be reached from here; their workers look after them")
		return nil
	}
	metrics := control.NewSandboxMetrics(provider.Name(), registry)
	return &control.Sandboxes{
		Rest: reconcile.New(reconcile.Config{
			Store: reconcile.NewStore(pool), Provider: sandbox.Fence(provider, nil), Host: provider.place, Logger: log, Observe: metrics.Observe,
		}),
		Erase: secrets.Sweep, Metrics: metrics,
	}
}

// retention prepares what takes away what is old.
func (c ControlPlane) retention(registry prometheus.Registerer) *control.Retention {
	return &control.Retention{
		Purger: retention.New(retention.Config{DirectURL: c.DirectURL, Log: part(c.Log, "retention"), Gentle: true}),
		Days:   c.RetentionDays, Metrics: control.NewRetentionMetrics(registry),
	}
}

func part(log zerolog.Logger, name string) zerolog.Logger {
	return log.With().Str("part", name).Logger()
}
