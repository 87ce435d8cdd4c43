package engine

import (
	"context"
	"fmt"

	"github.com/google/uuid"
)

// filesOld reports whether the sandbox that a rerun goes on in has the files of another version yet.
func (s *SandboxStore) filesOld(ctx context.Context, executionID uuid.UUID) (bool, error) {
	old, err := s.q.RerunFilesOld(ctx, executionID)
	if err != nil {
		return false, fmt.Errorf("reading whose files a sandbox has: %w", err)
	}
	return old, nil
}
