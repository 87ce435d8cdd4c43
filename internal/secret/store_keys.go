package secret

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"foundry/internal/errs"
	"foundry/internal/postgres/dbsqlc"
)

// sentinel is the known text behind each key's sentinel.
const sentinel = "foundry encryption key"

// CheckKeys proves at start that the process's keys are those that this database knows by their ids, and
// writes the sentinels of new ones. A key with a known id and another value is errs.Invalid: starting with it
// would lose what is encrypted from now on to everybody else.
func (s *Store) CheckKeys(ctx context.Context) error {
	if s.keys == nil {
		return nil
	}
	rows, err := s.q.SentinelList(ctx)
	if err != nil {
		return fmt.Errorf("reading the sentinels of encryption keys: %w", err)
	}
	known := map[string]bool{}
	for _, row := range rows {
		known[row.KeyID] = true
		if !s.keys.Has(row.KeyID) {
			continue
		}
		text, err := s.keys.Open(Sealed{row.KeyID, row.WrappedKey, row.Ciphertext}, sentinelPlace(row.KeyID))
		if err != nil || string(text) != sentinel {
			return errs.E(errs.Invalid, "The encryption key %q is not the key of that name that this database was used with; "+
				"put the former value back into FOUNDRY_ENCRYPTION_KEYS, or give the new key a new name.", row.KeyID)
		}
	}
	for _, id := range s.keys.ids() {
		if known[id] {
			continue
		}
		sealed, err := s.keys.only(id).Seal([]byte(sentinel), sentinelPlace(id))
		if err != nil {
			return err
		}
		if err := s.q.SentinelInsert(ctx, id, sealed.WrappedKey, sealed.Ciphertext); err != nil {
			return fmt.Errorf("writing the sentinel of an encryption key: %w", err)
		}
	}
	return nil
}

// Rekey wraps every data key with the first key of the process, in batches of 100. It may be stopped, run
// again, and run beside everything else. It returns how many versions it changed and how many it could
// not read, since their key is not in the process's keys.
func (s *Store) Rekey(ctx context.Context, progress func(changed int)) (changed, unreadable int, err error) {
	if s.keys == nil {
		return 0, 0, errs.E(errs.Invalid, "There are no encryption keys; set FOUNDRY_ENCRYPTION_KEYS.")
	}
	after, version := uuid.Nil, int32(0)
	for {
		rows, err := s.q.SecretListForRekey(ctx, s.keys.First(), after, version)
		if err != nil {
			return changed, unreadable, fmt.Errorf("reading versions to rekey: %w", err)
		}
		if len(rows) == 0 {
			return changed, unreadable, nil
		}
		for _, row := range rows {
			after, version = row.SecretID, row.Version
			done, err := s.rewrap(ctx, row)
			switch {
			case errs.Is(err, KeyMissing):
				unreadable++
			case err != nil:
				return changed, unreadable, err
			case done:
				changed++
			}
		}
		progress(changed)
	}
}

func (s *Store) rewrap(ctx context.Context, row dbsqlc.SecretListForRekeyRow) (bool, error) {
	old := Sealed{KeyID: row.KeyID, WrappedKey: row.WrappedKey}
	sealed, err := s.keys.Rewrap(old, versionPlace(row.SecretID, row.WorkflowID, row.Key, int(row.Version)))
	if err != nil {
		return false, fmt.Errorf("rewrapping version %d of %s: %w", row.Version, row.Key, err)
	}
	n, err := s.q.SecretRewrap(ctx, dbsqlc.SecretRewrapParams{
		NewKeyID: sealed.KeyID, WrappedKey: sealed.WrappedKey, SecretID: row.SecretID, Version: row.Version, OldKeyID: row.KeyID,
	})
	if err != nil {
		return false, fmt.Errorf("storing a rewrapped key: %w", err)
	}
	return n == 1, nil
}
