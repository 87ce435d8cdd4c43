package chaos

import (
	"fmt"
	"os"
	"syscall"
)

// mountSmallDisk puts the sandboxes on a small file system of their own, where this may be done.
func (r *run) mountSmallDisk() {
	if !r.form.smallDisk || os.Geteuid() != 0 {
		return
	}
	if err := syscall.Mount("tmpfs", r.sandboxes(), "tmpfs", 0, fmt.Sprintf("size=%dm,mode=0700", smallDisk)); err != nil {
		r.t.Logf("no small disk: %v", err)
		return
	}
	r.mounted = true
}

func (r *run) unmountSmallDisk() {
	if !r.mounted {
		return
	}
	if err := syscall.Unmount(r.sandboxes(), syscall.MNT_DETACH); err != nil {
		r.t.Errorf("unmounting the small disk: %v", err)
	}
}
