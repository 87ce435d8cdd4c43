package auth

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"

	"foundry/internal/errs"
)

// The cost of a hash, as OWASP's Password Storage Cheat Sheet has it for argon2id.
const (
	argonMemory  = 19 << 10 // KiB
	argonTime    = 2
	argonThreads = 1
	saltBytes    = 16
	keyBytes     = 32

	// maxHashes bounds the memory and the processors that sign-ins take: 19 MiB and one core each.
	maxHashes = 2

	minPassword = 10 // characters
	maxPassword = 200
)

// hasher hashes passwords, a few at a time. Safe for concurrent use.
type hasher struct {
	slots chan struct{}
}

func newHasher() *hasher { return &hasher{slots: make(chan struct{}, maxHashes)} }

// hash returns a PHC string. It waits for a slot until ctx ends.
func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	var salt [saltBytes]byte
	_, _ = rand.Read(salt[:]) // never fails, by its documentation
	key, err := h.derive(ctx, password, salt[:])
	if err != nil {
		return "", err
	}
	return encodePHC(salt[:], key), nil
}

// verify reports whether the PHC string is of the password. An empty one is of none, which takes as long to find out.
func (h *hasher) verify(ctx context.Context, password, encoded string) (bool, error) {
	salt, want := make([]byte, saltBytes), make([]byte, keyBytes)
	if encoded != "" {
		var err error
		if salt, want, err = decodePHC(encoded); err != nil {
			return false, err
		}
	}
	got, err := h.derive(ctx, password, salt)
	if err != nil {
		return false, err
	}
	return subtle.ConstantTimeCompare(got, want) == 1 && encoded != "", nil
}

func (h *hasher) derive(ctx context.Context, password string, salt []byte) ([]byte, error) {
	select {
	case h.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting to hash a password: %w", context.Cause(ctx))
	}
	defer func() { <-h.slots }()
	return argon2.IDKey([]byte(password), salt, argonTime, argonMemory, argonThreads, keyBytes), nil
}

// phcParameters is all that differs between hashes of other costs; we have had only one.
func phcParameters() string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$", argon2.Version, argonMemory, argonTime, argonThreads)
}

func encodePHC(salt, key []byte) string {
	return phcParameters() + base64.RawStdEncoding.EncodeToString(salt) + "$" + base64.RawStdEncoding.EncodeToString(key)
}

func decodePHC(encoded string) (salt, key []byte, err error) {
	body, ok := strings.CutPrefix(encoded, phcParameters())
	first, second, cut := strings.Cut(body, "$")
	if !ok || !cut {
		return nil, nil, errors.New("a stored password hash is not argon2id of our cost")
	}
	salt, err = base64.RawStdEncoding.DecodeString(first)
	if err != nil {
		return nil, nil, errors.New("the salt of a stored password hash is not base64")
	}
	key, err = base64.RawStdEncoding.DecodeString(second)
	if err != nil || len(key) != keyBytes {
		return nil, nil, errors.New("a stored password hash is not base64 of 32 bytes")
	}
	return salt, key, nil
}

// checkPassword refuses a new password that is too short or too long.
func checkPassword(password string) error {
	if n := utf8.RuneCountInString(password); n < minPassword || n > maxPassword {
		return errs.E(errs.Validation, "A password has %d to %d characters.", minPassword, maxPassword).
			With("/password", "Must have %d to %d characters.", minPassword, maxPassword)
	}
	return nil
}
