package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"foundry/internal/artifact"
	"foundry/internal/errs"
	"foundry/internal/execution"
	"foundry/internal/journal"
	"foundry/internal/lifecycle"
	"foundry/internal/queue"
	"foundry/internal/reconcile"
	"foundry/internal/sandbox"
	"foundry/internal/secret"
	"foundry/internal/workflow"
)

// Config is what an engine needs; every field but Registerer and Keep is required.
type Config struct {
	Journal      *journal.Journal
	Executions   *execution.Store
	Workflows    *workflow.Store
	Queue        *queue.Store
	Sandboxes    *SandboxStore
	Secrets      *secret.Store
	Artifacts    *artifact.Store
	Uploads      *artifact.Uploader // one for the process: it bounds memory
	Provider     sandbox.Provider
	Host         string    // of this machine, which names the worker in the audit record
	Place        string    // from where the provider's sandboxes can be reached; those of other places are left to their workers
	Installation uuid.UUID // labels sandboxes
	Keep         workflow.Keep
	Logger       zerolog.Logger
	Registerer   prometheus.Registerer
}

// Engine drives executions. Safe for concurrent use.
type Engine struct {
	Config
	definitions *workflow.Definitions
	metrics     *metrics
	rest        *reconcile.Reconciler
	goneGap     time.Duration
}

// New returns an engine.
func New(c Config) *Engine {
	m := newMetrics(c.Registerer)
	return &Engine{Config: c, definitions: workflow.NewDefinitions(c.Workflows), metrics: m, rest: newReconciler(c, m), goneGap: goneGap}
}

// Elsewhere means that the execution's sandbox can be reached from another machine only.
const Elsewhere errs.Code = "sandbox_elsewhere"

// reloadPause is the pause before an execution is loaded again after a lost answer.
const reloadPause = 200 * time.Millisecond

// Run drives one execution to its end or until it is parked, or until ctx ends or its claim is lost. facts brings what others
// decide about it; the newest value counts. It returns nil when the execution has ended or is parked, the cause of
// ctx's end, errs.StaleClaim, or secret.KeyMissing or Elsewhere when another worker must drive it. It sends no signal to a command unless a durable fact asks for it.
func (e *Engine) Run(ctx context.Context, c queue.Claimed, facts <-chan queue.Facts) error {
	log := e.Logger.With().Str("worker_id", c.WorkerID.String()).Str("execution_id", c.ID.String()).Str("workflow", c.WorkflowSlug).Int64("claim", c.Claim).Logger()
	fresh := c.StartedAt == nil && !c.Rerun && !c.Recovered
	g := &given{}
	for {
		err := e.drive(ctx, c, fresh, g, facts, log)
		fresh = false
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errs.Is(err, secret.KeyMissing), errs.Is(err, Elsewhere):
			return err
		case errs.Is(err, errs.StaleClaim), errs.Is(err, errs.Internal) && isEnded(err):
			log.Warn().Err(err).Msg("engine stopped")
			return err
		}
		log.Warn().Err(err).Msg("loading the execution again")
		if !lifecycle.Sleep(ctx, reloadPause) {
			return context.Cause(ctx)
		}
	}
}

// isEnded reports whether the journal has ended the execution because its data could not be stored.
func isEnded(err error) bool {
	_, ok := errors.AsType[*errs.Error](err)
	return ok
}

// drive loads an execution and runs its loop. When it returns, none of its goroutines is left.
func (e *Engine) drive(ctx context.Context, c queue.Claimed, fresh bool, g *given, facts <-chan queue.Facts, log zerolog.Logger) error {
	if err := e.receive(ctx, c, g); err != nil {
		return e.unable(ctx, c, c.Facts, err)
	}
	known := c.Facts
	var settled execution.Settled
	if !fresh {
		var err error
		if settled, err = e.Executions.Settle(ctx, c.ID, c.Claim); err != nil {
			return fmt.Errorf("loading the execution: %w", err)
		}
		known = factsOf(settled)
	}
	set, nextMask, err := e.redaction(ctx, c, g, fresh, settled.Signal)
	if err != nil {
		return e.unable(ctx, c, known, err)
	}
	def, err := e.definitions.Get(ctx, c.WorkflowID, c.Version)
	if err != nil && !errs.Is(err, errs.Validation) {
		return fmt.Errorf("reading the definition: %w", err)
	}
	text := &compiled{Definition: def}
	if err != nil {
		text = broken(err) // a text that no longer compiles ends the execution, it does not block the worker
	}
	r, err := newRun(ctx, e, c, text)
	if err != nil {
		return err
	}
	defer r.session.Abandon() // whoever goes on under the same claim reads what this run has left
	defer r.stop(nil)
	r.log = log
	r.given, r.redact = g, set
	r.tail.masks.next = nextMask
	if !fresh {
		if err := r.load(settled); err != nil {
			return e.unable(ctx, c, known, fmt.Errorf("loading the execution: %w", err))
		}
		fresh = !settled.Started
	}
	return r.drive(ctx, fresh, facts)
}
