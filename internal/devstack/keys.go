package devstack

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"foundry/internal/config"
	"foundry/internal/postgres"
	"foundry/internal/secret"
)

// keysFile holds the encryption keys of an installation on one machine. Without it, its secrets cannot be read.
const keysFile = "encryption-keys"

// Keyring reads the keys of the configuration; nil when there are none.
func Keyring(c config.Secrets) (*secret.Keyring, error) {
	if c.Keys == "" {
		return nil, nil //nolint:nilnil // no keys are a valid configuration
	}
	return secret.ParseKeyring(string(c.Keys))
}

// ownKeys reads the keys of the state folder, which is locked, and makes them when there are none. The key's id is random,
// since installations of two folders may share a database.
func ownKeys(dir string) (config.EncryptionKeys, error) {
	name := filepath.Join(dir, keysFile)
	text, err := os.ReadFile(name)
	if err == nil {
		return config.EncryptionKeys(strings.TrimSpace(string(text))), nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("reading the encryption keys: %w", err)
	}
	key := secret.NewKey("dev-" + rand.Text()[:8])
	if err := writeWhole(dir, keysFile, []byte(key+"\n")); err != nil {
		return "", fmt.Errorf("writing the encryption keys: %w", err)
	}
	return config.EncryptionKeys(key), nil
}

// Rekey wraps all data keys with the first key of the configuration, straight on the database (secret.Store.Rekey).
func Rekey(ctx context.Context, c config.Rekey, progress func(changed int)) (changed, unreadable int, err error) {
	keys, err := Keyring(c.Secrets)
	if err != nil {
		return 0, 0, err
	}
	pool, err := postgres.Open(ctx, string(c.Database.URL), postgres.Options{Name: "foundry rekey", MaxConns: 1})
	if err != nil {
		return 0, 0, err
	}
	defer pool.Close()
	if err := postgres.CheckSchema(ctx, pool); err != nil {
		return 0, 0, err
	}
	secrets := secret.NewStore(pool, keys)
	if err := secrets.CheckKeys(ctx); err != nil {
		return 0, 0, err
	}
	return secrets.Rekey(ctx, progress)
}
