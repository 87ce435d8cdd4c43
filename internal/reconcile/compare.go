package reconcile

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"foundry/internal/errs"
	"foundry/internal/sandbox"
)

// compare reads the provider's list, and after it the rows.
func (r *Reconciler) compare(ctx context.Context, installation uuid.UUID) error {
	listing, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	infos, err := r.Provider.List(listing, map[string]string{sandbox.LabelInstallation: installation.String()})
	if err != nil {
		return fmt.Errorf("listing sandboxes: %w", err)
	}
	listed := make(map[string]sandbox.Info, len(infos))
	for _, info := range infos {
		if info.Labels[sandbox.LabelInstallation] == installation.String() { // whatever the provider takes a label for
			listed[info.ProviderID] = info
		}
	}
	return errors.Join(r.endOrphans(ctx, listed), r.checkResting(ctx, listed))
}

// endOrphans destroys what no row knows, or only one of a sandbox that has ended, if it was so in the last round too.
func (r *Reconciler) endOrphans(ctx context.Context, listed map[string]sandbox.Info) error {
	ids := make([]uuid.UUID, 0, len(listed))
	for _, info := range listed {
		ids = append(ids, info.ID)
	}
	alive, err := r.Store.alive(ctx, ids)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	var doomed []box
	for providerID, info := range listed {
		switch {
		case alive[info.ID]:
		case r.orphans[providerID]:
			doomed = append(doomed, box{id: info.ID, providerID: providerID})
			seen[providerID] = true // until it is gone
		default:
			seen[providerID] = true
		}
	}
	r.orphans = seen
	return r.all(ctx, doomed, func(ctx context.Context, b box) error {
		r.Logger.Warn().Str("sandbox_id", b.id.String()).Str("provider_id", b.providerID).Msg("destroying a sandbox that belongs to nothing")
		return r.destroy(ctx, b.providerID, true)
	})
}

// checkResting stops kept sandboxes that are up, and asks for each sandbox that should exist, that no worker drives, and that is not listed.
func (r *Reconciler) checkResting(ctx context.Context, listed map[string]sandbox.Info) error {
	asked := map[uuid.UUID]bool{}
	err := r.each(ctx, func(ctx context.Context, provider, host string, after uuid.UUID) ([]box, error) {
		boxes, err := r.Store.resting(ctx, provider, host, after)
		for _, b := range boxes {
			if _, ok := listed[b.providerID]; !ok {
				asked[b.id] = true
			}
		}
		return boxes, err
	}, func(ctx context.Context, b box) error {
		info, ok := listed[b.providerID]
		switch {
		case !ok:
			return r.ask(ctx, b)
		case b.kept && info.State == sandbox.Ready:
			return r.stop(ctx, b)
		}
		return nil
	})
	r.forget(asked)
	return err
}

// ask has the provider say whether a sandbox exists. It is marked gone when it has said no for long enough.
func (r *Reconciler) ask(ctx context.Context, b box) error {
	_, err := r.Provider.Get(ctx, b.providerID)
	if err == nil {
		r.known(b.id)
		return nil
	}
	if !errs.Is(err, errs.NotFound) {
		return fmt.Errorf("asking for a sandbox: %w", err) // which says nothing about the sandbox
	}
	if !r.goneFor(b.id) {
		return nil
	}
	marked, err := r.Store.markGone(ctx, b.id)
	if marked {
		r.Logger.Warn().Str("sandbox_id", b.id.String()).Str("provider_id", b.providerID).Msg("a sandbox is gone")
	}
	return err
}

// goneFor takes note that the provider does not know a sandbox, and reports whether it has said so before, long enough ago.
func (r *Reconciler) goneFor(id uuid.UUID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	first, ok := r.missing[id]
	if !ok {
		r.missing[id] = r.now()
		return false
	}
	return r.now().Sub(first) >= goneGap
}

// known forgets that the provider did not know a sandbox.
func (r *Reconciler) known(id uuid.UUID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.missing, id)
}

// forget drops what was not asked for in this round: it is listed, or is no concern of ours any more.
func (r *Reconciler) forget(asked map[uuid.UUID]bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id := range r.missing {
		if !asked[id] {
			delete(r.missing, id)
		}
	}
}
