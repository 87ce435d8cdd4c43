package artifact

import (
	"bytes"
	"time"

	"github.com/google/uuid"

	"foundry/internal/errs"
)

// Limits, in bytes and files.
const (
	ChunkSize         = 1 << 20
	MaxFile           = 32 << 20
	MaxExecution      = 128 << 20 // stored at one time
	MaxExecutionFiles = 10_000    // stored at one time
	Keep              = 2         // checkpoints of a node and index
)

// Changed means that the content of a file is not what was listed.
const Changed errs.Code = "artifact_changed"

// Kind tells artifacts from checkpoints.
type Kind string

// Kinds.
const (
	Artifact   Kind = "artifact"
	Checkpoint Kind = "checkpoint"
)

// File is a complete file.
type File struct {
	ID          uuid.UUID
	ExecutionID uuid.UUID // whose node run left it; of one that a rerun has taken over, the earlier one
	NodeRunID   uuid.UUID
	Node        string // key; with Index and Attempt as the execution that was asked for has it
	Index       int
	Attempt     int
	Checkpoint  int    // its number; 0 for an artifact
	Path        string // with slashes; the first part of a checkpoint's is its name
	Executable  bool
	Size        int64
	SHA256      []byte
	CreatedAt   time.Time // when it was complete
}

// Kind says what the file is.
func (f *File) Kind() Kind {
	if f.Checkpoint > 0 {
		return Checkpoint
	}
	return Artifact
}

// Upload is a file that is to be stored.
type Upload struct {
	ExecutionID uuid.UUID
	Claim       int64
	NodeRunID   uuid.UUID
	Checkpoint  int   // 0 for an artifact
	Appeared    int64 // of a checkpoint: Mark.Appeared
	Path        string
	Executable  bool
	Size        int64 // at most MaxFile
	SHA256      []byte
}

func (u *Upload) same(size int64, sha256 []byte) bool {
	return u.Size == size && bytes.Equal(u.SHA256, sha256)
}

// Mark is the place of a checkpoint among those of its node run. The zero value is before all.
type Mark struct {
	Appeared int64 // nanoseconds of the sandbox's clock
	Name     string
}

// Stored is a checkpoint that is complete.
type Stored struct {
	NodeRunID uuid.UUID
	Number    int
	Mark      Mark
	Size      int64 // of all its files
	IDs       []uuid.UUID
}
