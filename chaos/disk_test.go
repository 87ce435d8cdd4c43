package chaos

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"foundry/internal/lifecycle"
)

// smallDisk is in MiB.
const smallDisk = 64

// fill fills the disk of the sandboxes up for a moment.
func (r *run) fill(ctx context.Context, b blow) {
	if !r.mounted {
		return
	}
	name := filepath.Join(r.sandboxes(), ".filler")
	file, err := os.Create(name)
	if err != nil {
		return // it is full already
	}
	zeros := make([]byte, 1<<20)
	for err == nil {
		_, err = file.Write(zeros)
	}
	_ = file.Close()
	r.count.dealt(b.kind, len(r.supervisors()) > 0)
	lifecycle.Sleep(ctx, time.Duration(b.pick*float64(2*time.Second)))
	if err := os.Remove(name); err != nil {
		r.t.Error(err)
	}
}
