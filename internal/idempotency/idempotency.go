// Package idempotency makes a request that creates something happen once, however often it is sent.
//
// A sender names its request with a key. The key's row is inserted first in the transaction of the effect, and the
// answer is stored in it before the commit:
//
//	no row ──Claim──▶ claimed, uncommitted ──Keep, commit──▶ answered ──24 h──▶ expired, claimed again or pruned
//	                        │ rollback
//	                        ▼
//	                     no row
//
// Failure cases:
//   - The same request is sent twice at once: the second waits for the first one's transaction. After its commit the
//     second gets its answer; after its rollback the second is the first.
//   - The process dies, or the effect is refused: nothing is kept, and the key may be used again.
//   - The commit's answer is lost: the next try finds the answer, or does it all.
//   - Another request comes with the same key: errs.Code Reused.
package idempotency

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"

	"foundry/internal/errs"
)

// Reused is the code of a request whose key was sent with another body before.
const Reused errs.Code = "idempotency_key_reused"

// MaxKey is how many characters a key may have.
const MaxKey = 255

// Request is a request as its sender named it. Keys of one principal do not meet those of others.
type Request struct {
	OrganizationID uuid.UUID
	PrincipalID    uuid.UUID
	Route          string // method and path
	Key            string // 1 to MaxKey characters
	Hash           [sha256.Size]byte
}

// Answer is what was answered first.
type Answer struct {
	Status int // 2xx
	Header map[string]string
	Body   []byte
}

// ReplayError is the error of a request that has been carried out before: the caller sends the answer again.
type ReplayError struct{ Answer Answer }

func (r *ReplayError) Error() string {
	return fmt.Sprintf("the request was answered before, with status %d", r.Answer.Status)
}

// HashOf returns the hash of what a request says. What is sent must be a value that encoding/json encodes the same way each time.
func HashOf(said any) ([sha256.Size]byte, error) {
	encoded, err := json.Marshal(said)
	if err != nil {
		return [sha256.Size]byte{}, fmt.Errorf("encoding a request: %w", err)
	}
	return sha256.Sum256(encoded), nil
}
