package auth

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"foundry/internal/errs"
)

func TestHasher(t *testing.T) {
	t.Parallel()
	h := newHasher()
	encoded, err := h.hash(t.Context(), "correct horse")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(encoded, "$argon2id$v=19$m=19456,t=2,p=1$") || strings.Contains(encoded, "correct") {
		t.Errorf("the hash is %q", encoded)
	}
	for _, c := range []struct {
		password, encoded string
		want              bool
	}{
		{"correct horse", encoded, true},
		{"correct horse ", encoded, false},
		{"", encoded, false},
		{"correct horse", "", false},
		{"", "", false},
	} {
		if got, err := h.verify(t.Context(), c.password, c.encoded); err != nil || got != c.want {
			t.Errorf("%q against %.12q…: %v, %v, want %v", c.password, c.encoded, got, err, c.want)
		}
	}
	again, err := h.hash(t.Context(), "correct horse")
	if err != nil || again == encoded {
		t.Errorf("two hashes of one password are equal (%v)", err)
	}
}

func TestHasherAgreesWithTheReference(t *testing.T) {
	t.Parallel()
	// Worked out with OpenSSL: Python's cryptography, Argon2id(salt=b"0123456789abcdef", length=32, iterations=2, lanes=1,
	// memory_cost=19456).derive(b"password").
	const want = "d2ab07b39ef7f8b806227cd86fbb11aa5393066a98e17eacacd126eb26e9276d"
	key, err := newHasher().derive(t.Context(), "password", []byte("0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(key); got != want {
		t.Errorf("the key is %s, want %s", got, want)
	}
}

func TestHashesAreDamaged(t *testing.T) {
	t.Parallel()
	key := base64.RawStdEncoding.EncodeToString(make([]byte, keyBytes))
	for name, encoded := range map[string]string{
		"another kind": "$2a$10$abcdefghijklmnopqrstuv",
		"another cost": "$argon2id$v=19$m=1,t=1,p=1$AAAA$" + key,
		"no key":       phcParameters() + "AAAA",
		"a short key":  phcParameters() + "AAAA$AAAA",
		"an odd salt":  phcParameters() + "!!!!$" + key,
		"an empty key": phcParameters() + "AAAA$",
	} {
		if ok, err := newHasher().verify(t.Context(), "", encoded); ok || err == nil {
			t.Errorf("%s: %v, %v", name, ok, err)
		}
	}
}

func TestHasherIsBounded(t *testing.T) {
	t.Parallel()
	h := newHasher()
	for range maxHashes {
		h.slots <- struct{}{}
	}
	gone := errors.New("gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(gone)
	if _, err := h.hash(ctx, "password"); !errors.Is(err, gone) {
		t.Errorf("with all slots taken: %v", err)
	}
	<-h.slots
	if _, err := h.hash(t.Context(), "password"); err != nil {
		t.Errorf("with a free slot: %v", err)
	}
	if len(h.slots) != maxHashes-1 {
		t.Errorf("%d slots are taken afterwards", len(h.slots))
	}
}

func TestPasswordsHaveALength(t *testing.T) {
	t.Parallel()
	for password, ok := range map[string]bool{
		"": false, "123456789": false, "1234567890": true, "éééééééééé": true, strings.Repeat("x", 200): true, strings.Repeat("x", 201): false,
	} {
		err := checkPassword(password)
		if ok != (err == nil) || err != nil && !errs.Is(err, errs.Validation) {
			t.Errorf("%d bytes: %v", len(password), err)
		}
	}
}
