package idempotency

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"foundry/internal/errs"
	"foundry/internal/postgres/dbsqlc"
)

// Store finds what was answered. Safe for concurrent use.
type Store struct {
	q *dbsqlc.Queries
}

// NewStore returns a store on the pool.
func NewStore(pool *pgxpool.Pool) *Store {
	return &Store{q: dbsqlc.New(pool)}
}

// Check returns nil for a key that has not been answered, *ReplayError for a request that has, and errs.Code Reused for another
// request with its key. It saves the work before the effect; only Guard decides.
func (s *Store) Check(ctx context.Context, r Request) error {
	return check(ctx, s.q, r)
}

func check(ctx context.Context, q *dbsqlc.Queries, r Request) error {
	row, err := q.IdempotencyGet(ctx, r.OrganizationID, r.PrincipalID, r.Route, r.Key)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading an idempotency key: %w", err)
	}
	if !bytes.Equal(row.RequestHash, r.Hash[:]) {
		return errs.E(Reused, "The idempotency key was used for another request; use a new one.")
	}
	replay := &ReplayError{Answer{Status: int(row.Status), Body: row.Body}}
	if err := json.Unmarshal(row.Headers, &replay.Answer.Header); err != nil {
		return fmt.Errorf("decoding stored headers: %w", err)
	}
	return replay
}

// Guard makes an effect that returns a T happen once. A nil Guard lets it happen each time.
type Guard[T any] struct {
	Request Request
	Answer  func(T) (Answer, error) // what the effect's result is answered with
}

// Do runs the effect in the transaction, as its first statements, unless the request has been carried out: then *ReplayError, or
// errs.Code Reused. An error means that the transaction must be rolled back. Do waits while another transaction has the key.
func (g *Guard[T]) Do(ctx context.Context, tx dbsqlc.DBTX, effect func() (T, error)) (T, error) {
	if g == nil {
		return effect()
	}
	var none T
	q := dbsqlc.New(tx)
	if err := g.claim(ctx, q); err != nil {
		return none, err
	}
	result, err := effect()
	if err != nil {
		return none, err
	}
	return result, g.keep(ctx, q, result)
}

func (g *Guard[T]) claim(ctx context.Context, q *dbsqlc.Queries) error {
	r := g.Request
	_, err := q.IdempotencyClaim(ctx, dbsqlc.IdempotencyClaimParams{
		OrganizationID: r.OrganizationID, PrincipalID: r.PrincipalID, Route: r.Route, Key: r.Key, RequestHash: r.Hash[:],
	})
	if errors.Is(err, pgx.ErrNoRows) {
		if err := check(ctx, q, r); err != nil {
			return err
		}
		return errs.E(errs.Unavailable, "The first request with this idempotency key has just expired; send it again.")
	}
	if err != nil {
		return fmt.Errorf("claiming an idempotency key: %w", err)
	}
	return nil
}

func (g *Guard[T]) keep(ctx context.Context, q *dbsqlc.Queries, result T) error {
	answer, err := g.Answer(result)
	if err != nil {
		return err
	}
	headers, err := json.Marshal(answer.Header)
	if err != nil {
		return fmt.Errorf("encoding headers: %w", err)
	}
	r := g.Request
	err = q.IdempotencyKeep(ctx, dbsqlc.IdempotencyKeepParams{
		Status: int32(answer.Status), Headers: headers, Body: answer.Body,
		OrganizationID: r.OrganizationID, PrincipalID: r.PrincipalID, Route: r.Route, Key: r.Key,
	})
	if err != nil {
		return fmt.Errorf("keeping an answer: %w", err)
	}
	if err := q.IdempotencyPrune(ctx); err != nil {
		return fmt.Errorf("pruning idempotency keys: %w", err)
	}
	return nil
}
