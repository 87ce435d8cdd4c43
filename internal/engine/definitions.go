package engine

import (
	"context"
	"fmt"
	"sync"

	"github.com/google/uuid"

	"foundry/internal/errs"
	"foundry/internal/workflow"
)

// maxDefinitions bounds the cache. Versions are immutable, so an entry is never stale.
const maxDefinitions = 256

// compiled is a version's definition. Its files are read when a sandbox needs them.
type compiled struct {
	*workflow.Definition
	version versionKey
	fault   error // set in place of the definition when the stored text does not load
}

type versionKey struct {
	workflowID uuid.UUID
	number     int
}

// definitions caches compiled versions. Safe for concurrent use.
type definitions struct {
	store *workflow.Store

	mu    sync.Mutex
	cache map[versionKey]*compiled
}

func newDefinitions(store *workflow.Store) *definitions {
	return &definitions{store: store, cache: map[versionKey]*compiled{}}
}

// get returns a version, compiled. errs.Validation when its text does not load.
func (d *definitions) get(ctx context.Context, workflowID uuid.UUID, number int) (*compiled, error) {
	key := versionKey{workflowID, number}
	d.mu.Lock()
	c := d.cache[key]
	d.mu.Unlock()
	if c != nil {
		return c, nil
	}
	v, err := d.store.Version(ctx, workflowID, number)
	if err != nil {
		return nil, fmt.Errorf("reading the definition: %w", err)
	}
	def, err := workflow.Load([]byte(v.Source), v.Grammar)
	if err != nil {
		return nil, errs.E(errs.Validation, "The text of version %d cannot be read by this worker.", number).Because(err)
	}
	c = &compiled{Definition: def, version: key}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.cache) >= maxDefinitions {
		for old := range d.cache { // any one: a miss costs one query
			delete(d.cache, old)
			break
		}
	}
	d.cache[key] = c
	return c, nil
}

// broken stands in for a text that does not load.
func broken(fault error) *compiled {
	return &compiled{Definition: &workflow.Definition{}, fault: fault}
}
