package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"foundry/internal/errs"
	"foundry/internal/event"
	"foundry/internal/journal"
	"foundry/internal/lifecycle"
	"foundry/internal/redact"
	"foundry/internal/shim"
)

const (
	// tailWait is how long one call to the shim waits for output.
	tailWait = 20 * time.Second
	// tailFirst is the same until it is known whether the shim tells of checkpoints.
	tailFirst = time.Second
	// backlogRead is how much of an output file is read at once by a tailer that is far behind.
	backlogRead = 1 << 20
	// maxExecutionLog is how many stored bytes of output one execution may have.
	maxExecutionLog = 512 << 20
)

// tailer follows the output of an execution's commands with one call for all of them, and hands it to
// the journal. Its goroutine lives while there is something to follow.
type tailer struct {
	r *run

	mu      sync.Mutex
	outputs map[uuid.UUID]*output
	done    map[uuid.UUID]bool // recorded to the end; the shim is told once
	running bool
	silent  time.Time          // since when the sandbox does not answer; zero while it does
	machine context.Context    // of the sandbox that is followed
	stop    context.CancelFunc // of the newest goroutine
	ended   chan struct{}

	// Of the goroutine alone.
	masks   maskSealer
	stored  int64 // bytes of all streams, for maxExecutionLog
	refused bool
}

func newTailer(r *run) *tailer {
	return &tailer{
		r: r, outputs: map[uuid.UUID]*output{}, done: map[uuid.UUID]bool{},
		masks: maskSealer{r: r, next: 1, sealed: map[redact.Value]bool{}, warned: map[string]bool{}},
	}
}

// follow takes up a node run's output at the cursor, before its command is started. machine ends with the sandbox.
func (t *tailer) follow(machine context.Context, sh machineShim, c journal.Cursor) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.machine = machine
	if t.outputs[c.NodeRunID] != nil {
		return
	}
	t.outputs[c.NodeRunID] = newOutput(c, t.r.redact)
	if !t.running {
		t.running = true
		ctx, stop := context.WithCancel(t.r.ctx)
		ended := make(chan struct{})
		t.stop, t.ended = stop, ended
		t.r.work.Go(func() {
			defer close(ended)
			defer stop()
			t.run(ctx, sh)
		})
	}
}

// reset drops everything: the sandbox is gone. When it returns, no goroutine asks that sandbox any more, so
// that the next follow begins with the new one.
func (t *tailer) reset() {
	t.mu.Lock()
	stop, ended := t.stop, t.ended
	t.mu.Unlock()
	if stop != nil {
		stop()
		<-ended // it waits for nothing but its context
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.outputs)
	clear(t.done)
	t.running, t.silent = false, time.Time{}
}

// offsets says where to go on. ok is false, and the goroutine is to end, when there is nothing left.
func (t *tailer) offsets() (offsets, stamps map[uuid.UUID]int64, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.outputs) == 0 {
		t.running = false
		return nil, nil, false
	}
	offsets, stamps = make(map[uuid.UUID]int64, len(t.outputs)+len(t.done)), make(map[uuid.UUID]int64)
	for id, o := range t.outputs {
		offsets[id], stamps[id] = o.next, o.stamp
	}
	for id := range t.done {
		offsets[id] = shim.Done
	}
	clear(t.done)
	return offsets, stamps, true
}

func (t *tailer) output(id uuid.UUID) *output {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.outputs[id]
}

// close stops following a node run.
func (t *tailer) close(id uuid.UUID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.outputs, id)
	t.done[id] = true
}

// heard notes whether the sandbox has answered.
func (t *tailer) heard(answer bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case answer:
		t.silent = time.Time{}
	case t.silent.IsZero():
		t.silent = time.Now()
	}
}

// silence is for how long the sandbox has not answered, 0 while it does.
func (t *tailer) silence() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.silent.IsZero() {
		return 0
	}
	return time.Since(t.silent)
}

func (t *tailer) run(ctx context.Context, sh machineShim) {
	pause := pauseFirst
	protocol := 0 // of the shim, once it has answered
	for {
		offsets, stamps, ok := t.offsets()
		if !ok {
			return
		}
		var result shim.TailResult
		var err error
		if protocol >= 2 {
			result, err = sh.Watch(ctx, offsets, stamps, tailWait)
		} else {
			result, err = sh.Tail(ctx, offsets, tailFirst)
		}
		t.heard(err == nil)
		if err == nil {
			protocol = result.Protocol
			err = t.takeAll(ctx, sh, result.Runs)
		}
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			pause = pauseFirst
			continue
		case errs.Is(err, errs.NotFound), errs.Is(err, errs.Unavailable):
			t.r.tell(ctx, func() { t.r.machine.suspect(t.r) })
		}
		t.r.log.Warn().Err(err).Msg("following output; asking again")
		if !lifecycle.Sleep(ctx, pause) {
			return
		}
		pause = min(2*pause, pauseMost)
	}
}

func (t *tailer) takeAll(ctx context.Context, sh machineShim, runs []shim.RunTail) error {
	for i := range runs {
		id, err := uuid.Parse(runs[i].Dir)
		if err != nil {
			continue // not ours
		}
		o := t.output(id)
		if o == nil {
			t.close(id) // it ended under an earlier claim
			continue
		}
		if err := t.take(ctx, sh, o, &runs[i]); err != nil {
			return err
		}
	}
	return nil
}

// take records the news of one node run.
func (t *tailer) take(ctx context.Context, sh machineShim, o *output, run *shim.RunTail) error {
	if run.Offset != o.next {
		return nil // an answer to an older question
	}
	frames, _, err := shim.DecodeFrames(run.Frames)
	if err != nil {
		return t.damaged(sh, o, err)
	}
	if err := t.record(ctx, sh, o, frames, run.Next); err != nil {
		return err
	}
	for run.Exit == nil && run.Size-o.next > shim.MaxTailBytes {
		frames, next, err := sh.ReadFrames(ctx, o.id, o.next, backlogRead)
		if errors.Is(err, shim.ErrCorrupt) {
			return t.damaged(sh, o, err)
		}
		if err != nil || next == o.next {
			return err
		}
		if err := t.record(ctx, sh, o, frames, next); err != nil {
			return err
		}
	}
	if run.Checkpoints != 0 && run.Exit == nil {
		o.stamp = run.Checkpoints
		t.r.tell(ctx, func() { t.r.checkpointsChanged(o.id) })
	}
	switch {
	case run.Exit != nil:
		return t.exited(ctx, o, run.Exit)
	case run.State == shim.Lost && run.Next == run.Offset: // and everything that was written has been read
		o.end()
		if err := t.submit(ctx, o); err != nil {
			return err
		}
		t.putDown(sh, o, "its supervisor died")
	case run.State == shim.Sealed:
		t.close(o.id)
		t.r.tell(ctx, func() { t.r.neverStarted(o.id) })
	}
	return nil
}

// record hands frames to the journal. It waits while the journal is full.
func (t *tailer) record(ctx context.Context, sh machineShim, o *output, frames []shim.Frame, next int64) error {
	for _, f := range frames {
		if err := o.feed(f); err != nil {
			return t.damaged(sh, o, err)
		}
	}
	o.next = next
	return t.submit(ctx, o)
}

func (t *tailer) submit(ctx context.Context, o *output) error {
	masks, warnings, err := t.masks.seal(o.id, o.takeMasks())
	if err != nil {
		return err
	}
	records := append(t.limit(o.take(), o), warnings...)
	if len(records) == 0 && len(masks) == 0 {
		return nil
	}
	entry := &journal.Entry{
		ExecutionID: t.r.c.ID, Claim: t.r.c.Claim, Session: t.r.session,
		Records: records, Masks: masks, Cursors: []journal.Cursor{o.cursor()},
	}
	return t.r.e.Journal.Submit(ctx, entry, func(_ journal.Receipt, err error) {
		if err != nil {
			t.r.stop(err)
		}
	})
}

// limit drops output beyond what one execution may store, and says so once.
func (t *tailer) limit(records []journal.Record, o *output) []journal.Record {
	for i, r := range records {
		t.stored += int64(len(r.Chunk))
		if t.stored <= maxExecutionLog {
			continue
		}
		records = records[:i]
		if !t.refused {
			t.refused = true
			records = append(records, journal.Record{Type: event.Warning, NodeRunID: o.id, Data: []byte(
				`{"code":"log_limit","message":"The execution's output reached its limit of 512 MiB; what came after it was not kept."}`)})
		}
		break
	}
	return records
}

// exited records the rest of the output, and then tells the loop of the end.
func (t *tailer) exited(ctx context.Context, o *output, exit *shim.Exit) error {
	o.end()
	if err := t.submit(ctx, o); err != nil {
		return err
	}
	t.close(o.id)
	t.r.tell(ctx, func() { t.r.commandEnded(o.id, exit) })
	return nil
}

// damaged gives up a node run whose output cannot be read.
func (t *tailer) damaged(sh machineShim, o *output, err error) error {
	t.putDown(sh, o, "its output is damaged")
	return fmt.Errorf("reading the output of %s: %w", o.id, err)
}

// putDown interrupts a node run that cannot be followed any more, once nothing of its command is left: it may
// run again only then.
func (t *tailer) putDown(sh machineShim, o *output, reason string) {
	t.close(o.id)
	t.mu.Lock()
	ctx := t.machine
	t.mu.Unlock()
	t.r.work.Go(func() {
		for pause := pauseFirst; ; pause = min(2*pause, pauseMost) {
			state, err := sh.Signal(ctx, o.id, shim.KILL)
			if err == nil && (state.Final() || state == shim.New) {
				state, err = sh.Seal(ctx, o.id) // which also kills what a dead supervisor has left
			}
			if err == nil && state.Final() {
				t.r.tell(ctx, func() { t.r.commandLost(o.id, reason) })
				return
			}
			if errs.Is(err, errs.NotFound) {
				t.r.tell(ctx, func() { t.r.machine.suspect(t.r) })
			}
			if !lifecycle.Sleep(ctx, pause) {
				return
			}
		}
	})
}
