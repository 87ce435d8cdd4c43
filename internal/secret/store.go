package secret

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"foundry/internal/audit"
	"foundry/internal/errs"
	"foundry/internal/postgres/dbsqlc"
	"foundry/internal/redact"
)

// Store keeps the secrets of workflows. Every change and every reveal writes its audit row in its own
// transaction. Safe for concurrent use. Callers have checked that the actor may do it.
type Store struct {
	pool *pgxpool.Pool
	q    *dbsqlc.Queries
	keys *Keyring
}

// NewStore returns a store. Without keys (nil), lists and deletes work and nothing else does.
func NewStore(pool *pgxpool.Pool, keys *Keyring) *Store {
	return &Store{pool: pool, q: dbsqlc.New(pool), keys: keys}
}

// Change is one value to set.
type Change struct {
	WorkflowID uuid.UUID
	Key        string
	Value      redact.Value
	Mask       bool   // false stores a value that may be shown in logs
	Newest     *int64 // the version that must be the newest yet, or 0 for any; nil: whether there is one or not
}

// Set stores the next version of a secret. errs.Validation with a pointer when the key or value is
// refused, or a limit of the workflow is reached.
func (s *Store) Set(ctx context.Context, by audit.Actor, c Change) (version int, err error) {
	if err := CheckKey(c.Key); err != nil {
		return 0, err
	}
	if err := CheckValue(c.Value, c.Mask); err != nil {
		return 0, err
	}
	if s.keys == nil {
		return 0, noKeys()
	}
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		q := dbsqlc.New(tx)
		if err := checkTotals(ctx, q, c); err != nil {
			return err
		}
		row, err := q.SecretSet(ctx, dbsqlc.SecretSetParams{
			ID: uuid.Must(uuid.NewV7()), WorkflowID: c.WorkflowID, Key: c.Key, Mask: c.Mask, UpdatedBy: by.Name,
		})
		if err != nil {
			return err
		}
		version = int(row.LatestVersion)
		if c.Newest != nil && (version == 1 || *c.Newest != 0 && *c.Newest != int64(version-1)) {
			return errs.E(Changed, "The secret has changed since it was read, or is gone; read it again.")
		}
		sealed, err := s.keys.Seal([]byte(c.Value), versionPlace(row.ID, c.WorkflowID, c.Key, version))
		if err != nil {
			return err
		}
		err = q.SecretVersionInsert(ctx, dbsqlc.SecretVersionInsertParams{
			SecretID: row.ID, Version: row.LatestVersion, Mask: c.Mask, KeyID: sealed.KeyID, WrappedKey: sealed.WrappedKey,
			Ciphertext: sealed.Ciphertext, CreatedBy: by.Name,
		})
		if err != nil {
			return err
		}
		if _, err := q.SecretErase(ctx, c.WorkflowID); err != nil {
			return err
		}
		return audit.Write(ctx, tx, audit.Entry{
			Actor: by, Action: audit.SecretSet, WorkflowID: &c.WorkflowID, Target: c.Key, Data: map[string]any{"version": version},
		})
	})
	if err != nil {
		return 0, fmt.Errorf("setting a secret: %w", err)
	}
	return version, nil
}

// checkTotals takes the workflow's lock and refuses what would exceed its limits.
func checkTotals(ctx context.Context, q *dbsqlc.Queries, c Change) error {
	if _, err := q.SecretLockWorkflow(ctx, c.WorkflowID); err != nil {
		if errors.Is(err, pgx.ErrNoRows) {
			return errs.E(errs.NotFound, "There is no workflow with this id or slug.")
		}
		return err
	}
	totals, err := q.SecretTotals(ctx, c.WorkflowID, c.Key)
	if err != nil {
		return err
	}
	if totals.Secrets >= MaxPerOwner {
		return errs.E(errs.TooLarge, "A workflow has at most %d secrets.", MaxPerOwner).With("/key", "Is one too many.")
	}
	if totals.Bytes+int64(len(c.Value)) > MaxTotal {
		return errs.E(errs.TooLarge, "The values of a workflow have at most %d bytes together; with this one they would have %d.",
			MaxTotal, totals.Bytes+int64(len(c.Value))).With("/value", "Is too long for what is left.")
	}
	return nil
}

// List returns the workflow's secrets by key, without values.
func (s *Store) List(ctx context.Context, workflowID uuid.UUID) ([]Info, error) {
	rows, err := s.q.SecretList(ctx, workflowID)
	if err != nil {
		return nil, fmt.Errorf("listing secrets: %w", err)
	}
	list := make([]Info, 0, len(rows))
	for _, row := range rows {
		list = append(list, Info{
			ID: row.ID, Key: row.Key, Version: int(row.LatestVersion), Mask: row.Mask,
			UpdatedBy: row.UpdatedBy, UpdatedAt: row.UpdatedAt, LastUsedAt: row.LastUsedAt,
		})
	}
	return list, nil
}

// Get returns one secret without its value. errs.NotFound if there is none.
func (s *Store) Get(ctx context.Context, workflowID uuid.UUID, key string) (*Info, error) {
	row, err := s.q.SecretGet(ctx, workflowID, key)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, notFound(key)
	}
	if err != nil {
		return nil, fmt.Errorf("reading a secret: %w", err)
	}
	return &Info{
		ID: row.ID, Key: row.Key, Version: int(row.LatestVersion), Mask: row.Mask,
		UpdatedBy: row.UpdatedBy, UpdatedAt: row.UpdatedAt, LastUsedAt: row.LastUsedAt,
	}, nil
}

// Reveal decrypts the newest version. The audit row is committed before the value is returned.
func (s *Store) Reveal(ctx context.Context, by audit.Actor, workflowID uuid.UUID, key string) (redact.Value, int, error) {
	if s.keys == nil {
		return "", 0, noKeys()
	}
	var row dbsqlc.SecretNewestRow
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) (err error) {
		if row, err = dbsqlc.New(tx).SecretNewest(ctx, workflowID, key); err != nil {
			return err
		}
		return audit.Write(ctx, tx, audit.Entry{
			Actor: by, Action: audit.SecretReveal, WorkflowID: &workflowID, Target: key, Data: map[string]any{"version": row.LatestVersion},
		})
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return "", 0, notFound(key)
	}
	if err != nil {
		return "", 0, fmt.Errorf("revealing a secret: %w", err)
	}
	version := int(row.LatestVersion)
	text, err := s.keys.Open(Sealed{row.KeyID, row.WrappedKey, row.Ciphertext}, versionPlace(row.ID, workflowID, key, version))
	return redact.Value(text), version, err
}

// Delete takes a secret away from future executions; those that run keep their version until they end.
func (s *Store) Delete(ctx context.Context, by audit.Actor, workflowID uuid.UUID, key string) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		q := dbsqlc.New(tx)
		n, err := q.SecretDelete(ctx, workflowID, key)
		if err != nil {
			return err
		}
		if n == 0 {
			return notFound(key)
		}
		if _, err := q.SecretErase(ctx, workflowID); err != nil {
			return err
		}
		return audit.Write(ctx, tx, audit.Entry{Actor: by, Action: audit.SecretDelete, WorkflowID: &workflowID, Target: key})
	})
	if err != nil {
		return fmt.Errorf("deleting a secret: %w", err)
	}
	return nil
}

func noKeys() error {
	return errs.E(errs.Unavailable, "This server has no encryption keys; set FOUNDRY_ENCRYPTION_KEYS.")
}

func notFound(key string) error {
	return errs.E(errs.NotFound, "There is no secret with the key %q.", key)
}
