package stream

import (
	"sync"
	"time"

	"github.com/google/uuid"

	"foundry/internal/errs"
)

// perPrincipal is how many streams one principal may have open in one process (protocols.md, 11).
const perPrincipal = 100

// Kind is what a stream carries.
type Kind string

// The kinds of streams.
const (
	KindExecution    Kind = "execution"
	KindOrganization Kind = "organization"
	KindText         Kind = "text"
)

// Open admits a stream of a principal and counts it until the function it returns is called. errs.TooMany
// when the principal has 100 of them, whatever their kinds.
func (h *Hub) Open(principal uuid.UUID, kind Kind) (closed func(), err error) {
	if !h.quota.take(principal) {
		return nil, errs.E(errs.TooMany, "At most %d streams may be open at a time, and you have as many. Close some first.", perPrincipal)
	}
	gauge := h.metrics.open.WithLabelValues(string(kind))
	gauge.Inc()
	return sync.OnceFunc(func() {
		gauge.Dec()
		h.quota.give(principal)
	}), nil
}

// Written records that an event of this time has just been written to a live stream. The clocks are the
// database's and ours, so a negative delay counts as none.
func (h *Hub) Written(event time.Time) {
	h.metrics.delay.Observe(max(0, time.Since(event).Seconds()))
}

// quota counts what each principal has open. Safe for concurrent use.
type quota struct {
	limit int

	mu   sync.Mutex
	open map[uuid.UUID]int
}

func newQuota(limit int) *quota {
	return &quota{limit: limit, open: make(map[uuid.UUID]int)}
}

func (q *quota) take(principal uuid.UUID) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.open[principal] >= q.limit {
		return false
	}
	q.open[principal]++
	return true
}

func (q *quota) give(principal uuid.UUID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.open[principal]--
	if q.open[principal] == 0 {
		delete(q.open, principal)
	}
}

func (q *quota) total() (n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, open := range q.open {
		n += open
	}
	return n
}
