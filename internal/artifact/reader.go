package artifact

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"foundry/internal/errs"
)

// Reader reads a file from its beginning, a chunk at a time. At the end of one whose content is not what was stored it returns errs.Internal
// instead of io.EOF. For one goroutine.
type Reader struct {
	ctx   context.Context //nolint:containedctx // io.Reader passes none
	store *Store
	file  *File
	next  int // chunk
	rest  []byte
	sum   hash.Hash
}

// Open returns a reader, which reads until ctx ends.
func (s *Store) Open(ctx context.Context, f *File) *Reader {
	return &Reader{ctx: ctx, store: s, file: f, sum: sha256.New()}
}

// Read implements io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		if int64(r.next)*ChunkSize >= r.file.Size {
			return 0, r.end()
		}
		chunk, err := r.store.Chunk(r.ctx, r.file, r.next)
		if err != nil {
			return 0, err
		}
		r.sum.Write(chunk)
		r.next++
		r.rest = chunk
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func (r *Reader) end() error {
	if got := r.sum.Sum(nil); string(got) != string(r.file.SHA256) {
		return damaged(r.file, fmt.Errorf("its hash is %x, want %x", got, r.file.SHA256))
	}
	return io.EOF
}

func damaged(f *File, cause error) error {
	return errs.E(errs.Internal, "The stored content of %q is damaged.", f.Path).Because(fmt.Errorf("artifact %s: %w", f.ID, cause))
}

// Damaged reports whether an error says that what is stored cannot be had any more, ever.
func Damaged(err error) bool {
	e, ok := errors.AsType[*errs.Error](err)
	return ok && (e.Code == errs.Internal || e.Code == errs.Expired)
}
