package secret

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"

	"foundry/internal/errs"
)

// ring parses keys, each an id with a key of its own.
func ring(t *testing.T, keys ...string) *Keyring {
	t.Helper()
	k, err := ParseKeyring(strings.Join(keys, ","))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestParseKeyring(t *testing.T) {
	t.Parallel()
	short := base64.StdEncoding.EncodeToString(make([]byte, 31))
	good := strings.TrimPrefix(NewKey("k"), "k:")
	tests := map[string]struct{ text, first, fault string }{
		"one":             {text: "a:" + good, first: "a"},
		"two with spaces": {text: " b-1:" + good + " , a_2:" + good + "\n", first: "b-1"},
		"empty":           {fault: "Encryption key 1 is not of the form"},
		"no id":           {text: ":" + good, fault: "Encryption key 1 is not of the form"},
		"no key":          {text: "a:" + good + ",b", fault: "Encryption key 2 is not of the form"},
		"bad id":          {text: "a b:" + good, fault: "Encryption key 1 is not of the form"},
		"long id":         {text: strings.Repeat("a", 33) + ":" + good, fault: "Encryption key 1 is not of the form"},
		"no base64":       {text: "a:???", fault: `The encryption key "a" is not the base64 of 32 bytes`},
		"short":           {text: "a:" + short, fault: `The encryption key "a" is not the base64 of 32 bytes`},
		"trailing comma":  {text: "a:" + good + ",", fault: "Encryption key 2 is not of the form"},
		"twice":           {text: "a:" + good + ",a:" + good, fault: `Two encryption keys have the id "a"`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k, err := ParseKeyring(tt.text)
			if tt.fault != "" {
				if !errs.Is(err, errs.Invalid) || !strings.HasPrefix(err.Error(), tt.fault) {
					t.Fatalf("got %v, want %q", err, tt.fault)
				}
				if strings.Contains(err.Error(), good) || strings.Contains(err.Error(), short) {
					t.Errorf("the error repeats a key: %v", err)
				}
				return
			}
			if err != nil || k.First() != tt.first {
				t.Errorf("got %v and first key %q, want %q", err, k.First(), tt.first)
			}
		})
	}
}

func TestKeyringDoesNotPrint(t *testing.T) {
	t.Parallel()
	k := ring(t, NewKey("a"))
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if got := fmt.Sprintf(format, k); got != "[redacted]" {
			t.Errorf("%s prints %q", format, got)
		}
	}
}

// TestSealedOpensOnlyInItsPlace has every part of a place changed, and every bit of what is stored.
func TestSealedOpensOnlyInItsPlace(t *testing.T) {
	t.Parallel()
	k := ring(t, NewKey("a"), NewKey("b"))
	row, owner, other := uuid.New(), uuid.New(), uuid.New()
	here := versionPlace(row, owner, "KEY", 1)
	sealed, err := k.Seal([]byte("a value"), here)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := k.Open(sealed, here); err != nil || string(text) != "a value" {
		t.Fatalf("got %q and %v", text, err)
	}
	for name, place := range map[string]Place{
		"row": versionPlace(other, owner, "KEY", 1), "workflow": versionPlace(row, other, "KEY", 1),
		"key": versionPlace(row, owner, "KEY2", 1), "version": versionPlace(row, owner, "KEY", 2),
		"swapped ids": versionPlace(owner, row, "KEY", 1), "kind": maskPlace(row, 1), "nothing": {},
	} {
		if _, err := k.Open(sealed, place); !errs.Is(err, Altered) {
			t.Errorf("with another %s: %v, want it closed", name, err)
		}
	}
	for _, part := range [][]byte{sealed.WrappedKey, sealed.Ciphertext} {
		for bit := range 8 * len(part) {
			part[bit/8] ^= 1 << (bit % 8)
			if _, err := k.Open(sealed, here); !errs.Is(err, Altered) {
				t.Fatalf("with bit %d changed: %v, want it closed", bit, err)
			}
			part[bit/8] ^= 1 << (bit % 8)
		}
	}
	other2, err := k.Seal([]byte("a value"), here)
	if err != nil {
		t.Fatal(err)
	}
	if string(other2.Ciphertext) == string(sealed.Ciphertext) || string(other2.WrappedKey) == string(sealed.WrappedKey) {
		t.Error("sealing twice gives the same bytes")
	}
	for name, mixed := range map[string]Sealed{
		"the data key of another value": {sealed.KeyID, other2.WrappedKey, sealed.Ciphertext},
		"another key's name":            {"b", sealed.WrappedKey, sealed.Ciphertext},
		"no wrapped key":                {"a", nil, sealed.Ciphertext},
		"no ciphertext":                 {"a", sealed.WrappedKey, nil},
	} {
		if _, err := k.Open(mixed, here); !errs.Is(err, Altered) {
			t.Errorf("with %s: %v, want it closed", name, err)
		}
	}
}

func TestKeyMissing(t *testing.T) {
	t.Parallel()
	place := versionPlace(uuid.New(), uuid.New(), "KEY", 1)
	sealed, err := ring(t, NewKey("a")).Seal([]byte("a value"), place)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []*Keyring{nil, ring(t, NewKey("b"))} {
		if _, err := k.Open(sealed, place); !errs.Is(err, KeyMissing) || !strings.Contains(err.Error(), `"a"`) {
			t.Errorf("got %v, want a sentence that names the key", err)
		}
	}
}

func TestRewrapKeepsTheValue(t *testing.T) {
	t.Parallel()
	a, b := NewKey("a"), NewKey("b")
	place := versionPlace(uuid.New(), uuid.New(), "KEY", 1)
	sealed, err := ring(t, a).Seal([]byte("a value"), place)
	if err != nil {
		t.Fatal(err)
	}
	moved, err := ring(t, b, a).Rewrap(sealed, place)
	if err != nil || moved.KeyID != "b" || string(moved.Ciphertext) != string(sealed.Ciphertext) {
		t.Fatalf("got %+v and %v", moved, err)
	}
	if text, err := ring(t, b).Open(moved, place); err != nil || string(text) != "a value" {
		t.Errorf("got %q and %v", text, err)
	}
}
