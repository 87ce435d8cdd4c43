package sandbox

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"time"

	"foundry/internal/failpoint"
)

// Permit is the right to make a call. It returns a context that ends with the right, and a function that is called when the call
// has ended; or an error when there is no right, errs.StaleClaim as a rule. Safe for concurrent use.
type Permit func(ctx context.Context) (context.Context, context.CancelFunc, error)

// Fence returns a provider that asks permit before every call, of its own and of the sandboxes it opens, reads included, and
// that makes the call within the permit's context: what begins has the right, and nothing goes on for longer than the right lasts.
// A call that the permit's end cuts short returns the cause of that end, which says nothing of the provider. A nil permit allows everything.
//
// The points around the calls are provider.<method>, sandbox.<method>, and shim.<subcommand> for what Shim runs (package failpoint).
// All these calls may be repeated, so all of them may be made twice.
func Fence(p Provider, permit Permit) Provider {
	if permit == nil {
		permit = func(ctx context.Context) (context.Context, context.CancelFunc, error) { return ctx, func() {}, nil }
	}
	return fencedProvider{p: p, permit: permit}
}

type fencedProvider struct {
	p      Provider
	permit Permit
}

// fenced makes one call. Whether one that the permit's end cut short has had its effect is not known.
func fenced[T any](ctx context.Context, permit Permit, operation string, call func(context.Context) (T, error)) (T, error) {
	right, done, err := permit(ctx)
	if err != nil {
		var none T
		return none, err
	}
	defer done()
	answer, err := failpoint.Call(right, operation, func() (T, error) { return call(right) })
	if err != nil && right.Err() != nil && ctx.Err() == nil {
		err = context.Cause(right)
	}
	return answer, err
}

// fencedDo is fenced for a call without an answer.
func fencedDo(ctx context.Context, permit Permit, operation string, call func(context.Context) error) error {
	_, err := fenced(ctx, permit, operation, func(ctx context.Context) (struct{}, error) { return struct{}{}, call(ctx) })
	return err
}

// Name implements Provider.
func (f fencedProvider) Name() string { return f.p.Name() }

// Create implements Provider.
func (f fencedProvider) Create(ctx context.Context, spec Spec) (Info, error) {
	return fenced(ctx, f.permit, "provider.create", func(ctx context.Context) (Info, error) { return f.p.Create(ctx, spec) })
}

// Get implements Provider.
func (f fencedProvider) Get(ctx context.Context, providerID string) (Info, error) {
	return fenced(ctx, f.permit, "provider.get", func(ctx context.Context) (Info, error) { return f.p.Get(ctx, providerID) })
}

// List implements Provider.
func (f fencedProvider) List(ctx context.Context, labels map[string]string) ([]Info, error) {
	return fenced(ctx, f.permit, "provider.list", func(ctx context.Context) ([]Info, error) { return f.p.List(ctx, labels) })
}

// Start implements Provider.
func (f fencedProvider) Start(ctx context.Context, providerID string) (Info, error) {
	return fenced(ctx, f.permit, "provider.start", func(ctx context.Context) (Info, error) { return f.p.Start(ctx, providerID) })
}

// Stop implements Provider.
func (f fencedProvider) Stop(ctx context.Context, providerID string) error {
	return fencedDo(ctx, f.permit, "provider.stop", func(ctx context.Context) error { return f.p.Stop(ctx, providerID) })
}

// Destroy implements Provider.
func (f fencedProvider) Destroy(ctx context.Context, providerID string) error {
	return fencedDo(ctx, f.permit, "provider.destroy", func(ctx context.Context) error { return f.p.Destroy(ctx, providerID) })
}

// SetExpiry implements Provider.
func (f fencedProvider) SetExpiry(ctx context.Context, providerID string, after time.Duration) error {
	return fencedDo(ctx, f.permit, "provider.set_expiry", func(ctx context.Context) error { return f.p.SetExpiry(ctx, providerID, after) })
}

// Open implements Provider. The sandbox keeps asking the permit.
func (f fencedProvider) Open(ctx context.Context, providerID string) (Sandbox, error) {
	sb, err := fenced(ctx, f.permit, "provider.open", func(ctx context.Context) (Sandbox, error) { return f.p.Open(ctx, providerID) })
	if err != nil {
		return nil, err
	}
	return fencedSandbox{sb: sb, permit: f.permit}, nil
}

type fencedSandbox struct {
	sb     Sandbox
	permit Permit
}

// Run implements Sandbox.
func (f fencedSandbox) Run(ctx context.Context, cmd Command) (Result, error) {
	operation := "sandbox.run"
	if cmd.Shim != "" {
		operation = "shim." + cmd.Shim
	}
	return fenced(ctx, f.permit, operation, func(ctx context.Context) (Result, error) { return f.sb.Run(ctx, cmd) })
}

// PutFile implements Sandbox.
func (f fencedSandbox) PutFile(ctx context.Context, path string, content io.Reader, mode uint32) error {
	if !failpoint.Active(ctx) {
		return fencedDo(ctx, f.permit, "sandbox.put_file", func(ctx context.Context) error { return f.sb.PutFile(ctx, path, content, mode) })
	}
	all, err := io.ReadAll(content) // it can be read once, and may be put twice
	if err != nil {
		return fmt.Errorf("reading what to put: %w", err)
	}
	return fencedDo(ctx, f.permit, "sandbox.put_file", func(ctx context.Context) error {
		return f.sb.PutFile(ctx, path, bytes.NewReader(all), mode)
	})
}

// ReadFile implements Sandbox.
func (f fencedSandbox) ReadFile(ctx context.Context, path string, offset, limit int64) ([]byte, error) {
	return fenced(ctx, f.permit, "sandbox.read_file", func(ctx context.Context) ([]byte, error) { return f.sb.ReadFile(ctx, path, offset, limit) })
}

// List implements Sandbox.
func (f fencedSandbox) List(ctx context.Context, path string) ([]Entry, error) {
	return fenced(ctx, f.permit, "sandbox.list", func(ctx context.Context) ([]Entry, error) { return f.sb.List(ctx, path) })
}

// Delete implements Sandbox.
func (f fencedSandbox) Delete(ctx context.Context, path string) error {
	return fencedDo(ctx, f.permit, "sandbox.delete", func(ctx context.Context) error { return f.sb.Delete(ctx, path) })
}
