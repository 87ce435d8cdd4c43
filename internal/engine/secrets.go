package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/google/uuid"

	"foundry/internal/errs"
	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/journal"
	"foundry/internal/queue"
	"foundry/internal/redact"
	"foundry/internal/secret"
)

// hidden takes the place of an output that held a secret.
const hidden = "***"

// given is what one claim of an execution was given to keep secret. It outlives a reload.
type given struct {
	read   bool
	signal int64 // of the facts that were known before the values were read
	values []secret.Value
	// unsealed are masks that could not be stored, since this process has no encryption keys.
	unsealed []redact.Value
}

// receive reads the execution's secrets, once a claim. Its error is secret.KeyMissing, secret.Altered,
// errs.StaleClaim, or one that may pass.
func (e *Engine) receive(ctx context.Context, c queue.Claimed, g *given) error {
	// What was stopped before it began runs nothing, so that it ends even where no worker has the key.
	nothingRuns := c.StartedAt == nil && (c.Facts.CancelForced || c.Facts.DeadlinePassed)
	if g.read || !c.HasSecrets && !c.Rerun || nothingRuns { // a rerun masks what its sandbox may hold, though the workflow has no secrets any more
		return nil
	}
	values, err := e.Secrets.Read(ctx, e.reader(c))
	if err != nil {
		return err
	}
	g.values, g.signal, g.read = values, c.Facts.Signal, true
	return nil
}

// receiveNewer reads what the execution's secrets were changed to since it read them, if a signal may tell of that, and returns what of it
// is masked. Its error is one of receive's.
func (e *Engine) receiveNewer(ctx context.Context, c queue.Claimed, g *given, signal int64) ([]redact.Value, error) {
	if len(g.values) == 0 || signal <= g.signal {
		return nil, nil
	}
	newer, err := e.Secrets.ReadNewer(ctx, e.reader(c), g.values)
	if err != nil {
		return nil, err
	}
	g.values, g.signal = append(g.values, newer...), signal
	return maskable(newer), nil
}

func (e *Engine) reader(c queue.Claimed) secret.Reader {
	return secret.Reader{
		ExecutionID: c.ID, Claim: c.Claim, OrganizationID: c.OrganizationID, WorkflowID: c.WorkflowID, WorkerID: c.WorkerID, Worker: e.Host,
	}
}

// maskable are the texts of the values that are to be masked.
func maskable(values []secret.Value) []redact.Value {
	var texts []redact.Value
	for _, v := range values {
		if v.Mask {
			texts = append(texts, v.Text)
		}
	}
	return texts
}

// redaction is what the execution masks: its secrets, what they were changed to until the signal, and what its commands have announced under
// earlier claims. next is the number of the next mask.
func (e *Engine) redaction(ctx context.Context, c queue.Claimed, g *given, fresh bool, signal int64) (set *redact.Set, next int, err error) {
	if _, err := e.receiveNewer(ctx, c, g, signal); err != nil {
		return nil, 0, err
	}
	masks, next := slices.Clone(g.unsealed), 1
	if !fresh {
		stored, n, err := e.Secrets.Masks(ctx, c.ID)
		if err != nil {
			return nil, 0, err
		}
		masks, next = append(masks, stored...), n
	}
	set = redact.NewSet(redact.New(maskable(g.values)), masks...)
	set.Count(func(runs int) { e.metrics.redactions.Add(float64(runs)) })
	return set, next, nil
}

// failUnreadable ends an execution whose secrets no worker can open. The journal says what becomes
// of its commands and its sandbox, since without its masks nothing of it may be looked at.
func (e *Engine) failUnreadable(ctx context.Context, c queue.Claimed, cause error) error {
	failure := execution.Failure{Code: "secret", Message: errs.MessageOf(cause, "A value that the execution had masked cannot be opened: it was changed.")}
	if err := e.Journal.Fail(ctx, c.ID, c.Claim, failure); err != nil {
		return err
	}
	e.metrics.ended.WithLabelValues(string(execution.Failed)).Inc()
	return nil
}

// secretEnv is the secrets that a node's command gets, by key.
func (r *run) secretEnv(node int) (map[string]string, *execution.Failure) {
	all := make(map[string]string, len(r.given.values))
	for _, v := range r.given.values {
		if !v.MaskOnly {
			all[v.Key] = string(v.Text)
		}
	}
	n := &r.def.Nodes[node]
	if n.Secrets == nil {
		return all, nil
	}
	listed := make(map[string]string, len(n.Secrets))
	for _, key := range n.Secrets {
		value, ok := all[key]
		if !ok {
			return nil, &execution.Failure{Code: "secret", Message: fmt.Sprintf("The node lists the secret %s, which the workflow does not have.", key)}
		}
		listed[key] = value
	}
	return listed, nil
}

// mask redacts a text. It comes before any cut: a part of a value would not be found.
func (r *run) mask(text string) string {
	masked, _ := redact.String(r.redact.Patterns(), text)
	return masked
}

// maskFailure redacts a failure's text and bounds it; nil stays nil.
func (r *run) maskFailure(f *execution.Failure) *execution.Failure {
	if f == nil {
		return nil
	}
	masked := *f
	masked.Message = storable(r.mask(f.Message), maxMessage)
	return &masked
}

// maskValue redacts all strings in a JSON value, keys included.
func maskValue(p *redact.Patterns, v any) any {
	switch v := v.(type) {
	case string:
		masked, _ := redact.String(p, v)
		return masked
	case []any:
		list := make([]any, len(v))
		for i, item := range v {
			list[i] = maskValue(p, item)
		}
		return list
	case map[string]any:
		object := make(map[string]any, len(v))
		for key, item := range v {
			masked, _ := redact.String(p, key)
			object[masked] = maskValue(p, item)
		}
		return object
	}
	return v
}

// maskOutputs returns outputs without those that hold something masked, which become *** whole, and the
// names of these. Later nodes see what is stored, or a takeover would change what they see.
func (r *run) maskOutputs(outputs map[string]any) (masked map[string]any, names []string) {
	p := r.redact.Patterns()
	if p == nil {
		return outputs, nil
	}
	masked = make(map[string]any, len(outputs))
	for _, name := range slices.Sorted(maps.Keys(outputs)) {
		shown, renamed := redact.String(p, name)
		masked[shown] = outputs[name]
		if renamed || holds(p, outputs[name]) {
			masked[shown], names = hidden, append(names, shown)
		}
	}
	return masked, names
}

// holds reports whether p matches in a JSON value: in one of its texts, or in the way it is written.
func holds(p *redact.Patterns, v any) bool {
	raw, err := json.Marshal(v)
	if err != nil {
		return false // encoding it for the store fails too
	}
	if _, changed := redact.String(p, string(raw)); changed {
		return true
	}
	switch v := v.(type) {
	case string:
		_, changed := redact.String(p, v)
		return changed
	case []any:
		return slices.ContainsFunc(v, func(item any) bool { return holds(p, item) })
	case map[string]any:
		for key, item := range v {
			if _, changed := redact.String(p, key); changed || holds(p, item) {
				return true
			}
		}
	}
	return false
}

// warnMasked says of each output that it was not stored as it was.
func (r *run) warnMasked(nodeRun uuid.UUID, names []string) {
	for _, name := range names {
		r.record(event.Warning, nodeRun, map[string]any{
			"code": "output_redacted", "output": name, "message": fmt.Sprintf("The output %s holds a secret and was stored as %s.", name, hidden),
		})
	}
}

// maskSealer seals what commands announce, for the transaction that moves a cursor past the
// announcement. It is used by one goroutine at a time.
type maskSealer struct {
	r      *run
	next   int
	sealed map[redact.Value]bool
	warned map[string]bool
}

// seal returns the masks to store, and warnings of those that cannot be.
func (s *maskSealer) seal(nodeRun uuid.UUID, announced []redact.Value) (masks []journal.Mask, warnings []journal.Record, err error) {
	for _, value := range announced {
		if s.sealed[value] { // both streams may announce it
			continue
		}
		sealed, err := s.r.e.Secrets.SealMask(s.r.c.ID, s.next, value)
		switch {
		case errs.Is(err, secret.KeyMissing):
			s.r.given.unsealed = append(s.r.given.unsealed, value)
			warnings = s.warn(warnings, nodeRun, "mask_not_stored",
				"The worker has no encryption keys, so a mask that a command announced holds only as long as this worker runs the execution.")
		case err != nil:
			return nil, nil, fmt.Errorf("sealing a mask: %w", err)
		default:
			masks = append(masks, journal.Mask{Number: s.next, KeyID: sealed.KeyID, WrappedKey: sealed.WrappedKey, Ciphertext: sealed.Ciphertext})
			s.next++
		}
		s.sealed[value] = true
	}
	if s.r.redact.Refused() > 0 {
		warnings = s.warn(warnings, nodeRun, "mask_limit", "The execution's commands announced more masks than can be kept; the last ones do not hold.")
	}
	return masks, warnings, nil
}

// warn adds a warning, each kind once.
func (s *maskSealer) warn(warnings []journal.Record, nodeRun uuid.UUID, code, message string) []journal.Record {
	if s.warned[code] {
		return warnings
	}
	s.warned[code] = true
	data := fmt.Sprintf(`{"code":%q,"message":%q}`, code, message)
	return append(warnings, journal.Record{Type: event.Warning, NodeRunID: nodeRun, Data: json.RawMessage(data)})
}
