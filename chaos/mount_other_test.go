//go:build !linux

package chaos

// mountSmallDisk does nothing: it is known how to do this on Linux.
func (r *run) mountSmallDisk() {}

func (r *run) unmountSmallDisk() {}
