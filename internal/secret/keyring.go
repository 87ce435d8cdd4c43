package secret

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"foundry/internal/errs"
)

// Codes of this package.
const (
	// KeyMissing: something is encrypted with a key that this process does not have. It is no
	// failure of an execution: another process may have it.
	KeyMissing errs.Code = "encryption_key_missing"
	// Altered: a ciphertext does not open where it stands, because it, or its place, was changed.
	Altered errs.Code = "ciphertext_altered"
)

// Changed is the code of a Set that was meant for another version.
const Changed errs.Code = "precondition_failed"

const keySize = 32 // AES-256

// Keyring holds the key-encryption keys of a process: the first encrypts, all decrypt. It is
// immutable and safe for concurrent use. It never prints its keys.
type Keyring struct {
	first string
	keys  map[string]cipher.AEAD
}

// Sealed is an encrypted value: its data key, wrapped by the key-encryption key that KeyID
// names, and the ciphertext. Both begin with a random nonce of 12 bytes.
type Sealed struct {
	KeyID      string
	WrappedKey []byte
	Ciphertext []byte
}

// ParseKeyring reads FOUNDRY_ENCRYPTION_KEYS: id:base64[,id:base64…], each key of 32 bytes. The error
// never repeats a key.
func ParseKeyring(text string) (*Keyring, error) {
	ids := regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`)
	k := &Keyring{keys: map[string]cipher.AEAD{}}
	for i, part := range strings.Split(text, ",") {
		id, encoded, ok := strings.Cut(strings.TrimSpace(part), ":")
		if !ok || !ids.MatchString(id) {
			return nil, errs.E(errs.Invalid, "Encryption key %d is not of the form id:base64, with an id of letters, digits, - and _.", i+1)
		}
		raw, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil || len(raw) != keySize {
			return nil, errs.E(errs.Invalid, "The encryption key %q is not the base64 of %d bytes; `foundry keygen` prints one.", id, keySize)
		}
		if k.keys[id] != nil {
			return nil, errs.E(errs.Invalid, "Two encryption keys have the id %q.", id)
		}
		if k.keys[id], err = newAEAD(raw); err != nil {
			return nil, err
		}
		if i == 0 {
			k.first = id
		}
	}
	return k, nil
}

// NewKey returns a new key-encryption key as ParseKeyring reads it.
func NewKey(id string) string {
	key := make([]byte, keySize)
	_, _ = rand.Read(key) // never fails
	return id + ":" + base64.StdEncoding.EncodeToString(key)
}

// First is the id of the key that encrypts.
func (k *Keyring) First() string { return k.first }

// Has reports whether the process has the key.
func (k *Keyring) Has(id string) bool { return k != nil && k.keys[id] != nil }

// String, GoString and Format keep keys out of logs.
func (k *Keyring) String() string { return "[redacted]" }

// GoString is String.
func (k *Keyring) GoString() string { return "[redacted]" }

// Format writes String for every verb.
func (k *Keyring) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, "[redacted]") }

// Seal encrypts plaintext with a fresh data key. It opens only together with the same place, which
// says what the value is and where it stands.
func (k *Keyring) Seal(plaintext []byte, place Place) (Sealed, error) {
	dataKey := make([]byte, keySize)
	_, _ = rand.Read(dataKey) // never fails
	data, err := newAEAD(dataKey)
	if err != nil {
		return Sealed{}, err
	}
	associated := place.associated()
	return Sealed{
		KeyID:      k.first,
		WrappedKey: k.keys[k.first].Seal(nil, nil, dataKey, associated), //nolint:gosec // the AEAD makes the nonce itself
		Ciphertext: data.Seal(nil, nil, plaintext, associated),          //nolint:gosec // the AEAD makes the nonce itself
	}, nil
}

// Open decrypts. KeyMissing when the process does not have the key, Altered when the value or its
// place is not what was sealed.
func (k *Keyring) Open(s Sealed, place Place) ([]byte, error) {
	dataKey, err := k.unwrap(s, place)
	if err != nil {
		return nil, err
	}
	data, err := newAEAD(dataKey)
	if err != nil {
		return nil, err
	}
	plaintext, err := data.Open(nil, nil, s.Ciphertext, place.associated())
	if err != nil {
		return nil, altered()
	}
	return plaintext, nil
}

// Rewrap wraps the data key with the first key; the ciphertext stays as it is.
func (k *Keyring) Rewrap(s Sealed, place Place) (Sealed, error) {
	dataKey, err := k.unwrap(s, place)
	if err != nil {
		return Sealed{}, err
	}
	s.KeyID = k.first
	s.WrappedKey = k.keys[k.first].Seal(nil, nil, dataKey, place.associated()) //nolint:gosec // the AEAD makes the nonce itself
	return s, nil
}

func (k *Keyring) unwrap(s Sealed, place Place) ([]byte, error) {
	if !k.Has(s.KeyID) {
		return nil, errs.E(KeyMissing, "This process does not have the encryption key %q.", s.KeyID)
	}
	dataKey, err := k.keys[s.KeyID].Open(nil, nil, s.WrappedKey, place.associated())
	if err != nil {
		return nil, altered()
	}
	return dataKey, nil
}

func altered() error {
	return errs.E(Altered, "An encrypted value does not open: it, or the row it stands in, was changed.")
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("making a cipher: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("making a cipher: %w", err)
	}
	return aead, nil
}

// ids lists the keys of the ring.
func (k *Keyring) ids() []string {
	return slices.Sorted(maps.Keys(k.keys))
}

// only is the ring with another first key.
func (k *Keyring) only(first string) *Keyring {
	return &Keyring{first: first, keys: k.keys}
}
