package worker

import (
	"sync"
	"time"

	"github.com/google/uuid"
)

// lockedPause is how long a worker leaves a workflow alone after it could not open one of its secrets. Another worker may
// have the key; or `foundry secrets rekey` may bring the secret to a key that this one has.
const lockedPause = 30 * time.Second

// lockedMemory is how long after its pause a workflow that was not met again is still a reason to be unready.
const lockedMemory = 10 * time.Minute

// locked are the workflows whose secrets this worker could not open, and the executions whose sandbox it cannot reach. The
// zero value has none. Safe for concurrent use.
type locked struct {
	mu         sync.Mutex
	workflows  map[uuid.UUID]lock
	executions map[uuid.UUID]time.Time // by the end of the pause
}

type lock struct {
	reason string
	until  time.Time
}

// add takes note of a workflow.
func (l *locked) add(workflow uuid.UUID, reason string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.workflows == nil {
		l.workflows = map[uuid.UUID]lock{}
	}
	l.workflows[workflow] = lock{reason, now.Add(lockedPause)}
}

// pass takes note of an execution that is for another machine. That is no reason to be unready.
func (l *locked) pass(execution uuid.UUID, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.executions == nil {
		l.executions = map[uuid.UUID]time.Time{}
	}
	l.executions[execution] = now.Add(lockedPause)
}

// opened forgets a workflow: its secrets have been read.
func (l *locked) opened(workflow uuid.UUID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.workflows, workflow)
}

// avoid lists the workflows and executions to pass over in a claim. A workflow whose pause is over is tried again, and stays known
// until that has gone well.
func (l *locked) avoid(now time.Time) []uuid.UUID {
	l.mu.Lock()
	defer l.mu.Unlock()
	var ids []uuid.UUID
	for id, w := range l.workflows {
		switch {
		case now.Before(w.until):
			ids = append(ids, id)
		case now.After(w.until.Add(lockedMemory)):
			delete(l.workflows, id)
		}
	}
	for id, until := range l.executions {
		if now.Before(until) {
			ids = append(ids, id)
		} else {
			delete(l.executions, id)
		}
	}
	return ids
}

// why is a sentence that says what the worker cannot do, "" when there is nothing.
func (l *locked) why() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range l.workflows {
		return w.reason
	}
	return ""
}
