package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"hash/crc32"
	"io"
	"math/big"
	"strings"
)

// The prefixes of secrets, all of one length. One kind is never taken for another.
const (
	prefix           = "fdy_" // API tokens
	prefixSession    = "fds_" // cookies
	prefixLink       = "fdl_" // one-time sign-in links
	prefixInvitation = "fdi_"
)

const (
	secretBytes = 32
	secretChars = 43 // 62^43 > 256^32
	sumChars    = 6  // 62^6 > 2^32
	tokenChars  = len(prefix) + secretChars + sumChars

	redacted = "[redacted]"
)

// Token is an API token, or another secret that lets somebody in, in plaintext. However it is printed or encoded, it shows "[redacted]".
type Token struct {
	plaintext string
}

// newToken makes a random API token.
func newToken() Token { return newSecret(prefix) }

// newSecret makes a random secret of the kind that the prefix names.
func newSecret(prefix string) Token {
	var secret [secretBytes]byte
	_, _ = rand.Read(secret[:]) // never fails, by its documentation
	body := base62(secret[:], secretChars)
	return Token{plaintext: prefix + body + checksum(body)}
}

// Reveal returns the plaintext.
func (t Token) Reveal() string { return t.plaintext }

// String returns "[redacted]".
func (Token) String() string { return redacted }

// GoString returns "[redacted]".
func (Token) GoString() string { return redacted }

// Format writes "[redacted]", whatever the verb.
func (Token) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, redacted)
}

// MarshalText returns "[redacted]".
func (Token) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON returns "[redacted]".
func (Token) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// digest identifies a token in the database.
type digest [sha256.Size]byte

// digest returns what the database holds of the secret.
func (t Token) digest() digest { return sha256.Sum256([]byte(t.plaintext)) }

// parse returns the digest of what was presented; ok is false when it cannot be an API token.
func parse(presented string) (d digest, ok bool) { return parseSecret(prefix, presented) }

// parseSecret does so for the kind of secret that the prefix names.
func parseSecret(prefix, presented string) (d digest, ok bool) {
	body, found := strings.CutPrefix(presented, prefix)
	if !found || len(presented) != tokenChars {
		return digest{}, false
	}
	body, sum := body[:secretChars], body[secretChars:]
	if checksum(body) != sum {
		return digest{}, false
	}
	return sha256.Sum256([]byte(presented)), true
}

func checksum(body string) string {
	sum := crc32.ChecksumIEEE([]byte(body))
	return base62([]byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)}, sumChars)
}

// base62 writes a number in digits, capitals and small letters, with zeros in front up to the width.
func base62(number []byte, width int) string {
	const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	n, base, rest := new(big.Int).SetBytes(number), big.NewInt(int64(len(alphabet))), new(big.Int)
	text := make([]byte, width)
	for i := width - 1; i >= 0; i-- {
		n.DivMod(n, base, rest)
		text[i] = alphabet[rest.Int64()]
	}
	return string(text)
}
