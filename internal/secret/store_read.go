package secret

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"foundry/internal/errs"
	"foundry/internal/postgres/dbsqlc"
	"foundry/internal/redact"
)

// Reader is who reads the secrets of an execution: the worker that holds its claim.
type Reader struct {
	ExecutionID    uuid.UUID
	Claim          int64
	OrganizationID uuid.UUID
	WorkflowID     uuid.UUID
	WorkerID       uuid.UUID
	Worker         string // its name, for the audit
}

// Read gives an execution its secrets: the newest at the first read, and those same versions at every
// later one. To be masked only, it gives those of the executions in whose sandbox it goes on, and all versions that were
// set after one of these. One transaction checks the claim, pins the versions and writes an audit row for each;
// nothing is decrypted before it has committed. errs.StaleClaim when the claim is gone; KeyMissing when
// another process must do it, and then nothing was read or written; Altered when nobody can. The last two
// name the secret.
func (s *Store) Read(ctx context.Context, r Reader) ([]Value, error) {
	return s.read(ctx, r, nil)
}

// ReadNewer gives what Read would give now and is not known from before: what was set since. Errors are those of Read.
func (s *Store) ReadNewer(ctx context.Context, r Reader, known []Value) ([]Value, error) {
	return s.read(ctx, r, known)
}

func (s *Store) read(ctx context.Context, r Reader, known []Value) ([]Value, error) {
	var rows []dbsqlc.SecretListPinnedRow
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) (err error) {
		rows, err = s.readPinned(ctx, dbsqlc.New(tx), r, known)
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, errs.E(errs.StaleClaim, "The right to this execution is gone.")
	}
	if err != nil {
		return nil, fmt.Errorf("reading the secrets of execution %s: %w", r.ExecutionID, err)
	}
	values := make([]Value, 0, len(rows))
	for _, row := range rows {
		text, err := s.keys.Open(Sealed{row.KeyID, row.WrappedKey, row.Ciphertext}, versionPlace(row.ID, row.WorkflowID, row.Key, int(row.Version)))
		if err != nil {
			return nil, errs.E(errs.CodeOf(err), "The secret %s cannot be opened: it, or the row it stands in, was changed.", row.Key).Because(err)
		}
		values = append(values, Value{ID: row.ID, Key: row.Key, Version: int(row.Version), Mask: row.Mask, MaskOnly: !row.Own, Text: redact.Value(text)})
	}
	return values, nil
}

func (s *Store) readPinned(ctx context.Context, q *dbsqlc.Queries, r Reader, known []Value) ([]dbsqlc.SecretListPinnedRow, error) {
	decided, err := q.SecretReadLock(ctx, r.ExecutionID, r.Claim)
	if err != nil {
		return nil, err
	}
	if !decided {
		if err := q.SecretPin(ctx, r.ExecutionID, r.WorkflowID); err != nil {
			return nil, err
		}
	}
	rows, err := q.SecretListPinned(ctx, r.ExecutionID)
	if err != nil {
		return nil, err
	}
	rows = slices.DeleteFunc(rows, func(row dbsqlc.SecretListPinnedRow) bool {
		return slices.ContainsFunc(known, func(v Value) bool { return v.ID == row.ID && v.Version == int(row.Version) })
	})
	if len(rows) == 0 {
		return nil, nil
	}
	for _, row := range rows {
		if !s.keys.Has(row.KeyID) {
			return nil, errs.E(KeyMissing, "The secret %s is encrypted with the key %q, which this process does not have.", row.Key, row.KeyID)
		}
	}
	return rows, s.record(ctx, q, r, rows)
}

// record writes the audit rows of a read, and when the secrets were used.
func (s *Store) record(ctx context.Context, q *dbsqlc.Queries, r Reader, rows []dbsqlc.SecretListPinnedRow) error {
	audit := dbsqlc.AuditInsertSecretReadsParams{
		OrganizationID: r.OrganizationID, WorkerID: &r.WorkerID, Worker: r.Worker,
		WorkflowID: &r.WorkflowID, ExecutionID: &r.ExecutionID, Claim: r.Claim,
	}
	ids := make([]uuid.UUID, 0, len(rows))
	for _, row := range rows {
		if row.Own {
			ids = append(ids, row.ID)
		}
		audit.Ids = append(audit.Ids, uuid.Must(uuid.NewV7()))
		audit.Keys = append(audit.Keys, row.Key)
		audit.Versions = append(audit.Versions, row.Version)
	}
	if err := q.AuditInsertSecretReads(ctx, audit); err != nil {
		return err
	}
	return q.SecretTouch(ctx, ids)
}

// Masks returns the values that the execution's commands have announced so far, and those of the executions in whose sandbox it goes on;
// and the number of its next.
// KeyMissing and Altered as for Read.
func (s *Store) Masks(ctx context.Context, executionID uuid.UUID) (masks []redact.Value, next int, err error) {
	rows, err := s.q.MaskList(ctx, executionID)
	if err != nil {
		return nil, 0, fmt.Errorf("reading masks: %w", err)
	}
	next, masks = 1, make([]redact.Value, 0, len(rows))
	for _, row := range rows {
		text, err := s.keys.Open(Sealed{row.KeyID, row.WrappedKey, row.Ciphertext}, maskPlace(row.ExecutionID, int(row.Number)))
		if err != nil {
			return nil, 0, fmt.Errorf("opening a mask: %w", err)
		}
		masks = append(masks, redact.Value(text))
		if row.ExecutionID == executionID {
			next = int(row.Number) + 1
		}
	}
	return masks, next, nil
}

// SealMask encrypts the number-th mask of an execution, for the journal to store.
func (s *Store) SealMask(executionID uuid.UUID, number int, mask redact.Value) (Sealed, error) {
	if s.keys == nil {
		return Sealed{}, errs.E(KeyMissing, "This process has no encryption keys.")
	}
	return s.keys.Seal([]byte(mask), maskPlace(executionID, number))
}

// Sweep erases versions that nothing needs any more, and masks of executions that have ended with their sandboxes.
// Set and Delete erase at once what is free already; this is for what was in use then.
func (s *Store) Sweep(ctx context.Context) error {
	if _, err := s.q.SecretEraseAll(ctx); err != nil {
		return fmt.Errorf("erasing versions of secrets: %w", err)
	}
	if _, err := s.q.MaskDeleteEnded(ctx); err != nil {
		return fmt.Errorf("deleting masks: %w", err)
	}
	return nil
}
