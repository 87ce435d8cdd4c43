package devstack

import (
	"context"
	"fmt"
	"time"

	"foundry/internal/auth"
	"foundry/internal/postgres"
)

// Organization is the slug of the one that everything belongs to until accounts make others.
const (
	Organization     = "default"
	organizationName = "Default"
)

// NewToken makes an API token straight on the database, in place of any other with the name. 0 never
// expires.
func NewToken(ctx context.Context, databaseURL, name string, expiry time.Duration) (auth.Token, error) {
	pool, err := postgres.Open(ctx, databaseURL, postgres.Options{Name: "foundry token", MaxConns: 1})
	if err != nil {
		return auth.Token{}, err
	}
	defer pool.Close()
	if err := postgres.CheckSchema(ctx, pool); err != nil {
		return auth.Token{}, err
	}
	tokens := auth.NewStore(pool)
	organization, err := tokens.EnsureOrganization(ctx, Organization, organizationName)
	if err != nil {
		return auth.Token{}, err
	}
	if _, err := tokens.Revoke(ctx, organization, name); err != nil {
		return auth.Token{}, fmt.Errorf("replacing the token %q: %w", name, err)
	}
	return tokens.Create(ctx, organization, name, expiry)
}
