package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"foundry/internal/errs"
	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/graph"
	"foundry/internal/journal"
	"foundry/internal/queue"
	"foundry/internal/redact"
)

// run is one execution while this worker drives it. Its fields belong to the loop's goroutine,
// except those that say otherwise.
type run struct {
	e   *Engine
	c   queue.Claimed
	def *compiled
	log zerolog.Logger

	facts   queue.Facts
	inputs  map[string]any
	env     map[string]any          // the workflow's env, evaluated
	fault   error                   // why the text cannot be run; nil where it can
	states  []graph.Status          // by node, as package graph wants them
	nodes   []node                  // by node
	active  map[uuid.UUID]*instance // node runs that may have a command, by id
	machine machine
	ended   bool        // the terminal entry is durable
	forcing *time.Timer // until the sandbox is given up, if it does not answer

	broken      error     // ends this run, and the execution is loaded again
	more        bool      // the entry was full: there is more to begin
	calls       int       // requests to the queue that are under way
	nodeRuns    int       // how many the execution has
	nodeSeen    bool      // the first node run is durable, or was when the execution was loaded
	firstFailed *instance // for good; nil while none has
	// recalled are node runs that were running when the execution was loaded, until they are attached to.
	recalled map[uuid.UUID]journal.Cursor

	session *journal.Session
	entry   *journal.Entry // what the next commit writes
	acts    []func()       // what to do once it is durable
	inbox   chan func()    // messages from goroutines; each is run by the loop
	tail    *tailer
	files   *collector
	given   *given
	redact  *redact.Set // shared by all streams of the execution

	outer context.Context // of the worker's right to drive the execution
	ctx   context.Context // of the goroutines of this run; ends with stop
	stop  context.CancelCauseFunc
	work  sync.WaitGroup
}

func newRun(ctx context.Context, e *Engine, c queue.Claimed, def *compiled) (*run, error) {
	inputs := map[string]any{}
	if err := json.Unmarshal(c.Inputs, &inputs); err != nil {
		return nil, fmt.Errorf("decoding the inputs: %w", err)
	}
	r := &run{
		e: e, c: c, def: def, facts: c.Facts, inputs: inputs,
		states: make([]graph.Status, len(def.Nodes)), nodes: make([]node, len(def.Nodes)),
		active: map[uuid.UUID]*instance{}, recalled: map[uuid.UUID]journal.Cursor{}, inbox: make(chan func(), 64), given: &given{}, redact: redact.NewSet(nil), session: new(journal.Session),
	}
	for i := range r.states {
		r.states[i] = graph.Pending
		if !def.Nodes[i].Fans() {
			r.instance(i, 0)
		}
	}
	r.outer = ctx
	r.ctx, r.stop = context.WithCancelCause(ctx)
	r.tail = newTailer(r)
	r.files = newCollector(r)
	r.newEntry()
	r.fault = r.prepare()
	return r, nil
}

func (r *run) newEntry() {
	r.entry = &journal.Entry{ExecutionID: r.c.ID, Claim: r.c.Claim, Session: r.session}
	r.acts = nil
}

// record adds an event of a node run, or of the whole execution for the zero id. Texts in data are redacted;
// what is already JSON, and failures, the caller has redacted.
func (r *run) record(t event.Type, nodeRun uuid.UUID, data map[string]any) {
	r.entry.Records = append(r.entry.Records, r.made(t, nodeRun, data))
}

// made is an event as record adds it. Any goroutine may make one.
func (r *run) made(t event.Type, nodeRun uuid.UUID, data map[string]any) journal.Record {
	raw, err := json.Marshal(storableValue(maskValue(r.redact.Patterns(), data)))
	if err != nil {
		r.log.Error().Err(err).Str("event", string(t)).Msg("encoding an event")
		raw = nil
	}
	return journal.Record{Type: t, NodeRunID: nodeRun, Data: raw}
}

// then does f once the present entry is durable.
func (r *run) then(f func()) { r.acts = append(r.acts, f) }

// spawn runs f in a goroutine that the run waits for before it returns.
func (r *run) spawn(f func(ctx context.Context)) {
	r.work.Go(func() { f(r.ctx) })
}

// tell hands a message to the loop. It gives up when the run is over.
func (r *run) tell(ctx context.Context, message func()) {
	select {
	case r.inbox <- message:
	case <-ctx.Done():
	}
}

// drive runs the loop and then ends every goroutine of the run.
func (r *run) drive(ctx context.Context, fresh bool, facts <-chan queue.Facts) error {
	defer r.work.Wait()
	defer r.stop(nil)
	defer r.stopTimers()

	if fresh {
		r.entry.Started = true
		r.record(event.ExecutionStarted, uuid.Nil, nil)
	}
	if r.fault != nil {
		r.finish(execution.Failed, &execution.Failure{Code: "workflow", Message: r.fault.Error()})
	}
	if r.cancel() != graph.NotCanceled {
		r.files.hurry()
		r.cancelWaiting()
	}
	r.failFans()
	err := r.loop(facts)
	if err != nil && r.ctx.Err() != nil {
		err = context.Cause(r.ctx)
	}
	if err == nil && r.ended {
		r.machine.cleanUp(ctx, r)
	}
	return err
}

// prepare evaluates what the whole execution shares. Its error is a sentence.
func (r *run) prepare() error {
	if r.def.fault != nil {
		var e *errs.Error
		if errors.As(r.def.fault, &e) {
			return errors.New(e.Message)
		}
		return r.def.fault
	}
	env, err := r.evalEnv(r.def.Env, r.baseContexts())
	if err != nil {
		return fmt.Errorf("The workflow's env cannot be evaluated: %w", err) //nolint:staticcheck // a sentence for a person
	}
	r.env = env
	return nil
}

// loop decides, commits, acts and waits until the execution has ended.
func (r *run) loop(facts <-chan queue.Facts) error {
	for {
		if !r.ended {
			r.decide()
		}
		if r.broken != nil {
			return r.broken // the entry is dropped
		}
		if err := r.commit(); err != nil {
			return err
		}
		if r.ended {
			return nil
		}
		if r.more {
			r.more = false
			continue
		}
		if r.park() {
			return r.commit()
		}
		r.watchForced()
		select {
		case <-r.ctx.Done():
			return context.Cause(r.ctx)
		case f := <-facts:
			if err := r.learn(f); err != nil {
				return err
			}
		case message := <-r.inbox:
			message()
			r.drainInbox()
		}
	}
}

// drainInbox takes every message that has already arrived, so that one commit covers them all.
func (r *run) drainInbox() {
	for {
		select {
		case message := <-r.inbox:
			message()
		default:
			return
		}
	}
}

// commit makes the entry durable and then does what it allows.
func (r *run) commit() error {
	e, acts := r.entry, r.acts
	var refused map[uuid.UUID]*errs.Error
	empty := !e.Started && len(e.Records) == 0 && len(e.NodeRuns) == 0 && len(e.Sandboxes) == 0 && len(e.Children) == 0
	if !empty {
		r.newEntry()
		receipt, err := r.e.Journal.Commit(r.ctx, e)
		if err != nil {
			return err
		}
		r.observe(e)
		refused = receipt.Refused
	}
	r.acts = nil
	for _, act := range acts {
		act()
	}
	if len(refused) > 0 {
		r.refusedChildren(refused)
		r.decide()
		if r.broken != nil {
			return r.broken
		}
		return r.commit()
	}
	return nil
}

// observe counts what an entry made durable.
func (r *run) observe(e *journal.Entry) {
	if len(e.NodeRuns) > 0 && !r.nodeSeen {
		r.nodeSeen = true
		r.e.metrics.firstNode.Observe(time.Since(r.c.ReceivedAt).Seconds())
	}
	if e.End != nil {
		r.e.metrics.ended.WithLabelValues(string(e.End.Status)).Inc()
	}
}

// learn takes in what others have decided and ends what must end. What is to be masked comes before anything that is written. Decisions
// about approvals come before a cancel: whoever decided was first, or would have been refused.
func (r *run) learn(f queue.Facts) error {
	if f.Signal <= r.facts.Signal {
		return nil
	}
	newer, err := r.e.receiveNewer(r.ctx, r.c, r.given, f.Signal)
	if err != nil {
		return err
	}
	r.redact.Extend(newer...)
	before := r.facts
	r.facts = f
	if err := r.takeDecisions(); err != nil {
		return err
	}
	if err := r.takeChildren(false); err != nil {
		return err
	}
	if f.DeadlinePassed && !before.DeadlinePassed || f.CancelForced && !before.CancelForced || f.Canceled && !before.Canceled {
		r.files.hurry()
		r.endCommands()
		r.cancelWaiting()
	}
	return nil
}

// cancel says what package graph is to make of the facts.
func (r *run) cancel() graph.Cancel { return urgency(r.facts) }

func (r *run) stopTimers() {
	if r.forcing != nil {
		r.forcing.Stop()
	}
	for in := range r.instances() {
		for _, t := range []*time.Timer{in.retrying, in.dueTimer} {
			if t != nil {
				t.Stop()
			}
		}
	}
}
