package local

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/google/uuid"

	"foundry/internal/errs"
	"foundry/internal/sandbox"
	"foundry/internal/shim"
)

// record is what a sandbox's folder says about it.
type record struct {
	ID        uuid.UUID         `json:"id"`
	State     sandbox.State     `json:"state"` // ready, stopped or destroying
	Labels    map[string]string `json:"labels"`
	Level     Level             `json:"level"`
	Shim      string            `json:"shim"` // the copy that it was built with
	CreatedAt time.Time         `json:"created_at"`
	ExpiresAt time.Time         `json:"expires_at"`
}

// build makes the folder of a sandbox. Where somebody else was faster, theirs stays.
func (p *Provider) build(spec sandbox.Spec) (err error) {
	tmp := p.file("sandboxes", "."+spec.ID.String()+"."+uuid.NewString())
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(tmp))
		}
	}()
	for _, dir := range []string{"workspace", "home", "tmp", "shim"} {
		if err := os.MkdirAll(filepath.Join(tmp, dir), 0o700); err != nil {
			return err
		}
	}
	if p.level == Bwrap {
		argv, err := p.wrapper(p.dir(spec.ID.String()), spec)
		if err != nil {
			return err
		}
		iso := shim.Isolation{Argv: argv, Files: insideFiles, Shim: append([]string{insideShim}, p.shim[1:]...)}
		if err := writeJSON(filepath.Join(tmp, "shim", shim.IsolationFile), iso); err != nil {
			return err
		}
	}
	now := time.Now()
	err = writeJSON(filepath.Join(tmp, "record.json"), record{
		ID:        spec.ID,
		State:     sandbox.Ready,
		Labels:    spec.Labels,
		Level:     p.level,
		Shim:      p.shim[0],
		CreatedAt: now,
		ExpiresAt: now.Add(cmp.Or(spec.ExpireAfter, defaultExpiry)),
	})
	if err != nil {
		return err
	}
	err = os.Rename(tmp, p.dir(spec.ID.String()))
	if errors.Is(err, fs.ErrExist) || errors.Is(err, syscall.ENOTEMPTY) {
		return os.RemoveAll(tmp)
	}
	return err
}

// info reads a sandbox's record.
func (p *Provider) info(providerID string) (sandbox.Info, error) {
	r, err := p.read(providerID)
	if err != nil {
		return sandbox.Info{}, err
	}
	workspace := filepath.Join(p.dir(providerID), "workspace")
	if r.Level == Bwrap {
		workspace = insideWorkspace
	}
	return sandbox.Info{
		ID:          r.ID,
		ProviderID:  providerID,
		State:       r.State,
		Labels:      r.Labels,
		Workspace:   workspace,
		ShimRoot:    filepath.Join(p.dir(providerID), "shim"),
		ShimCommand: p.shim,
		Isolation:   string(r.Level),
		CreatedAt:   r.CreatedAt,
		ExpiresAt:   r.ExpiresAt,
	}, nil
}

func (p *Provider) read(providerID string) (record, error) {
	var r record
	notFound := errs.E(errs.NotFound, "There is no sandbox %s on this machine.", providerID)
	// The id becomes part of a path.
	if id, err := uuid.Parse(providerID); err != nil || id.String() != providerID {
		return r, notFound
	}
	name := filepath.Join(p.dir(providerID), "record.json")
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(p.dir(providerID)); errors.Is(err, fs.ErrNotExist) {
			return r, notFound
		}
		b, err = os.ReadFile(name) // the folder, which comes with its record, may have come between the two looks
	}
	if errors.Is(err, fs.ErrNotExist) {
		// Its removal was begun and not finished.
		id := uuid.MustParse(providerID)
		return record{ID: id, State: sandbox.Destroying, Level: Process}, nil
	}
	if err != nil {
		return r, fmt.Errorf("reading sandbox %s: %w", providerID, err)
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("reading sandbox %s: %w", providerID, err)
	}
	return r, nil
}

// update changes a record under the sandbox's lock. One that is being destroyed stays so.
func (p *Provider) update(ctx context.Context, providerID string, change func(*record)) error {
	return p.updateThen(ctx, providerID, change, func() error { return nil })
}

// updateThen is update with something to do once the record is written, under the same lock.
func (p *Provider) updateThen(ctx context.Context, providerID string, change func(*record), then func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if _, err := p.read(providerID); err != nil {
		return err
	}
	lock, err := os.Open(p.dir(providerID))
	if errors.Is(err, fs.ErrNotExist) {
		return errs.E(errs.NotFound, "There is no sandbox %s on this machine.", providerID)
	}
	if err != nil {
		return fmt.Errorf("locking sandbox %s: %w", providerID, err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("locking sandbox %s: %w", providerID, err)
	}
	r, err := p.read(providerID)
	if err != nil {
		return err
	}
	wasDestroying := r.State == sandbox.Destroying
	change(&r)
	if wasDestroying {
		if r.State != sandbox.Destroying {
			return errs.E(errs.Conflict, "The sandbox is being destroyed.")
		}
		return nil
	}
	err = writeJSON(filepath.Join(p.dir(providerID), "record.json"), r)
	if err != nil {
		return fmt.Errorf("writing sandbox %s: %w", providerID, err)
	}
	return then()
}

// writeJSON replaces a file at once.
func writeJSON(name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	tmp := name + "." + uuid.NewString()
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, name)
}
