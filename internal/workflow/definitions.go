package workflow

import (
	"context"
	"sync"

	"github.com/google/uuid"

	"foundry/internal/errs"
)

const (
	// maxDefinitions and maxDefinitionText bound what Definitions keep, in versions and in bytes of their texts. A text takes
	// about ten times its size once it is compiled.
	maxDefinitions    = 256
	maxDefinitionText = 8 << 20
)

// Definitions reads versions and keeps the compiled ones, since compiling costs far more than all else that queues an execution.
// Versions are immutable, so what is kept is never stale. Safe for concurrent use.
type Definitions struct {
	store  *Store
	most   int // versions
	mostOf int // bytes of text

	mu     sync.Mutex
	kept   map[versionKey]keptDefinition
	keptOf int // bytes of text
}

type versionKey struct {
	workflowID uuid.UUID
	number     int
}

type keptDefinition struct {
	*Definition
	size int // bytes of text
}

// NewDefinitions returns an empty collection that reads from the store.
func NewDefinitions(store *Store) *Definitions {
	return &Definitions{store: store, most: maxDefinitions, mostOf: maxDefinitionText, kept: make(map[versionKey]keptDefinition)}
}

// Get returns a version, compiled; callers share it. errs.NotFound if there is none, errs.Validation when this release cannot
// read its text: a later one may have written it.
func (d *Definitions) Get(ctx context.Context, workflowID uuid.UUID, number int) (*Definition, error) {
	key := versionKey{workflowID, number}
	d.mu.Lock()
	known, ok := d.kept[key]
	d.mu.Unlock()
	if ok {
		return known.Definition, nil
	}
	v, err := d.store.Version(ctx, workflowID, number)
	if err != nil {
		return nil, err
	}
	def, err := Load([]byte(v.Source), v.Grammar)
	if err != nil {
		return nil, errs.E(errs.Validation, "The text of version %d cannot be read by this release of Foundry.", number).Because(err)
	}
	d.keep(key, keptDefinition{def, len(v.Source)})
	return def, nil
}

// keep makes room by dropping any others: a miss costs one query and one compilation.
func (d *Definitions) keep(key versionKey, one keptDefinition) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.drop(key)
	for old := range d.kept {
		if len(d.kept) < d.most && d.keptOf+one.size <= d.mostOf {
			break
		}
		d.drop(old)
	}
	d.kept[key] = one
	d.keptOf += one.size
}

func (d *Definitions) drop(key versionKey) {
	d.keptOf -= d.kept[key].size
	delete(d.kept, key)
}
