package devstack

import (
	"os"
	"path/filepath"
	"testing"

	"foundry/internal/config"
	"foundry/internal/errs"
)

func TestOwnKeysAreMadeOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, err := ownKeys(dir)
	if err != nil {
		t.Fatal(err)
	}
	if k, err := Keyring(config.Secrets{Keys: first}); err != nil || k == nil {
		t.Errorf("the key that was made cannot be read: %v", err)
	}
	again, err := ownKeys(dir)
	if err != nil || again != first {
		t.Errorf("the second start has another key (%v)", err)
	}
	if other, err := ownKeys(t.TempDir()); err != nil || other == first {
		t.Errorf("two folders have one key (%v)", err)
	}
	info, err := os.Stat(filepath.Join(dir, keysFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has the mode %v, %v", info.Mode(), err)
	}
}

func TestKeyring(t *testing.T) {
	t.Parallel()
	if k, err := Keyring(config.Secrets{}); k != nil || err != nil {
		t.Errorf("without keys there is %v, %v", k, err)
	}
	if _, err := Keyring(config.Secrets{Keys: "nonsense"}); !errs.Is(err, errs.Invalid) {
		t.Errorf("got %v, want a sentence", err)
	}
}
