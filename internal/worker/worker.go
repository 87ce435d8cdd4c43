package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"foundry/internal/artifact"
	"foundry/internal/engine"
	"foundry/internal/errs"
	"foundry/internal/execution"
	"foundry/internal/journal"
	"foundry/internal/lifecycle"
	"foundry/internal/postgres"
	"foundry/internal/queue"
	"foundry/internal/sandbox"
	"foundry/internal/secret"
	"foundry/internal/workflow"
)

// ListenName is the application_name of the one connection that a worker listens on, by which workers are counted.
const ListenName = "foundry worker listen"

// Config is what a worker needs. Every field is required but Keep, Keys and those with a default.
type Config struct {
	Pool      *pgxpool.Pool // four connections are enough
	LeasePool *pgxpool.Pool // one connection, for renewals only
	DirectURL string        // for LISTEN
	Listener  net.Listener  // for /healthz, /readyz and /metrics; closed by Run
	Provider  sandbox.Provider
	Host      string // of this machine
	Place     string // from where its sandboxes can be reached; Host unless set
	Version   string
	Slots     int           // executions held at most
	Lease     time.Duration // the default is queue.DefaultLease
	QueuedMax int           // of the workflows that nodes run; the default is queue.DefaultQueuedMax
	Keep      workflow.Keep
	Keys      *secret.Keyring // nil: executions whose workflow has secrets are left to other workers
	Logger    zerolog.Logger
	Registry  *prometheus.Registry
}

// Worker claims and drives executions. Make it with New, run it once.
type Worker struct {
	Config
	queue   *queue.Store
	leases  *queue.Store
	journal *journal.Journal
	notify  *postgres.Notifier
	metrics metrics
	wake    chan struct{} // one slot
	secrets *secret.Store
	locked  locked
	lease   *lease
	drain   atomic.Bool // the process is leaving
}

// New returns a worker.
func New(c Config) (*Worker, error) {
	if c.Slots < 1 {
		return nil, errs.E(errs.Invalid, "A worker needs at least one slot.")
	}
	c.Lease, c.Place = cmp.Or(c.Lease, queue.DefaultLease), cmp.Or(c.Place, c.Host)
	notifier := postgres.NewNotifier(c.Pool, c.Logger)
	return &Worker{
		Config: c, notify: notifier, queue: queue.NewStore(c.Pool, notifier), leases: queue.NewStore(c.LeasePool, notifier),
		journal: journal.New(journal.Config{Pool: c.Pool, Notifier: notifier, Logger: c.Logger, Registerer: c.Registry, QueuedMax: c.QueuedMax}),
		metrics: newMetrics(c.Registry), wake: make(chan struct{}, 1), secrets: secret.NewStore(c.Pool, c.Keys),
		lease: newLease(c.Lease),
	}, nil
}

// Run works until ctx ends, and then drains: it claims nothing more, stops the engines without a signal
// to any command, writes what they have submitted, gives back what it holds, and leaves.
func (w *Worker) Run(ctx context.Context) error {
	defer w.lease.close()
	if err := w.secrets.CheckKeys(ctx); err != nil {
		return err
	}
	sandboxes := engine.NewSandboxStore(w.Pool)
	installation, err := sandboxes.Installation(ctx)
	if err != nil {
		return err
	}
	listener, err := postgres.Listen(ctx, postgres.ListenConfig{
		URL: w.DirectURL, Name: ListenName, Channels: []string{postgres.ChannelWork}, Log: w.Logger,
		OnNotify: func(postgres.Notification) { w.nudge() }, OnReset: w.nudge,
	})
	if err != nil {
		return err
	}
	// What the engines need outlives them: this group ends after the last engine.
	group := lifecycle.NewGroup(context.WithoutCancel(ctx))
	group.Go("journal", w.journal.Run)
	group.Go("notifier", w.notify.Run)
	group.Go("listener", listener.Run)
	group.Go("http", w.serveHTTP)

	work, stop := context.WithCancelCause(group.Context())
	defer stop(nil)
	release := context.AfterFunc(ctx, func() {
		w.drain.Store(true)
		stop(context.Cause(ctx))
	})
	defer release()
	w.work(work, w.newEngine(sandboxes, installation))
	group.Stop(errStopped)
	return group.Wait()
}

// errStopped is why the journal and the others end.
var errStopped = errors.New("the worker has stopped")

func (w *Worker) newEngine(sandboxes *engine.SandboxStore, installation uuid.UUID) *engine.Engine {
	return engine.New(engine.Config{
		Journal: w.journal, Executions: execution.NewStore(w.Pool), Workflows: workflow.NewStore(w.Pool), Queue: w.queue,
		Sandboxes: sandboxes, Secrets: w.secrets, Artifacts: artifact.NewStore(w.Pool), Uploads: artifact.NewUploader(w.Pool), Provider: sandbox.Fence(w.Provider, w.lease.permit), Host: w.Host, Place: w.Place, Installation: installation,
		Keep: w.Keep, Logger: w.Logger, Registerer: w.Registry,
	})
}

// rejoinPause is the pause before a worker that failed to join, or was declared gone, joins again.
const rejoinPause = time.Second

// work activates again and again until ctx ends.
func (w *Worker) work(ctx context.Context, e *engine.Engine) {
	for ctx.Err() == nil {
		err := w.activate(ctx, e)
		if ctx.Err() != nil {
			break
		}
		w.Logger.Warn().Err(err).Msg("worker joins again")
		select {
		case <-ctx.Done():
		case <-time.After(rejoinPause):
		}
	}
	w.Logger.Info().Str("cause", fmt.Sprint(context.Cause(ctx))).Msg("worker stopped")
}

// activate is one life of a worker row.
func (w *Worker) activate(ctx context.Context, e *engine.Engine) error {
	id := execution.NewID()
	log := w.Logger.With().Str("worker_id", id.String()).Logger()
	sent := time.Now()
	err := w.leases.Join(ctx, queue.Worker{ID: id, Host: w.Host, PID: os.Getpid(), Version: w.Version, Slots: w.Slots, Lease: w.Lease})
	if err != nil {
		return err
	}
	w.lease.renewed(sent)
	a := newActivation(w, e, id, log)
	log.Info().Int("slots", w.Slots).Str("provider", w.Provider.Name()).Msg("worker active")
	d := w.newDrain(ctx, a)
	err = a.run(ctx)
	d.finish(err) //nolint:contextcheck // ctx has ended
	return err
}

// nudge makes the worker look at once.
func (w *Worker) nudge() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}
