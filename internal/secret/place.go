package secret

import (
	"encoding/binary"

	"github.com/google/uuid"
)

// Place is what a ciphertext is bound to. A value that was moved to another row, workflow, name or
// version does not open there.
type Place struct {
	kind    string
	row     uuid.UUID
	owner   uuid.UUID
	name    string
	version int
}

// versionPlace is that of one version of a secret.
func versionPlace(secretID, workflowID uuid.UUID, key string, version int) Place {
	return Place{kind: "secret", row: secretID, owner: workflowID, name: key, version: version}
}

// maskPlace is that of a mask which an execution's command announced.
func maskPlace(executionID uuid.UUID, number int) Place {
	return Place{kind: "mask", row: executionID, version: number}
}

// sentinelPlace is that of the sentinel of a key.
func sentinelPlace(keyID string) Place {
	return Place{kind: "sentinel", name: keyID}
}

// associated encodes the place without ambiguity: every part of variable length has its length before it.
func (p Place) associated() []byte {
	b := []byte("foundry/1")
	for _, part := range [][]byte{[]byte(p.kind), p.row[:], p.owner[:], []byte(p.name)} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(part)))
		b = append(b, part...)
	}
	return binary.BigEndian.AppendUint64(b, uint64(p.version))
}
