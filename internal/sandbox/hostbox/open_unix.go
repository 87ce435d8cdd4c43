//go:build unix

package hostbox

import "syscall"

const nonblock = syscall.O_NONBLOCK
