//go:build !linux

package hostbox

import "os"

// UntilExecutable returns at once: elsewhere a program can be executed while somebody may write to it.
func UntilExecutable(*os.File) {}
