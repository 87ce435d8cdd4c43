package devstack

import (
	"context"

	"foundry/internal/auth"
	"foundry/internal/postgres"
)

// NewSignInLink makes a user of the default organization straight on the database, where it is missing, and returns the address of a
// one-time link, good for 10 minutes, on the server at base. user.OrganizationID is filled in.
func NewSignInLink(ctx context.Context, databaseURL, base string, user auth.EnsureUser) (string, error) {
	pool, err := postgres.Open(ctx, databaseURL, postgres.Options{Name: "foundry user", MaxConns: 1})
	if err != nil {
		return "", err
	}
	defer pool.Close()
	if err := postgres.CheckSchema(ctx, pool); err != nil {
		return "", err
	}
	store := auth.NewStore(pool)
	if user.OrganizationID, err = store.EnsureOrganization(ctx, Organization, organizationName); err != nil {
		return "", err
	}
	link, err := store.EnsureUser(ctx, user)
	if err != nil {
		return "", err
	}
	return base + "/sign-in?token=" + link.Reveal(), nil
}
