package artifact

import (
	"fmt"
	"sync"
)

// Account is what one execution has stored, which its engine keeps. Safe for concurrent use.
type Account struct {
	mu    sync.Mutex
	files int
	bytes int64
}

// Reserve takes room for files. When there is none, it takes nothing and says in a sentence why.
func (a *Account) Reserve(files int, bytes int64) (why string, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.bytes+bytes > MaxExecution:
		return fmt.Sprintf("The execution would store %d bytes; the limit is %d (128 MiB).", a.bytes+bytes, MaxExecution), false
	case a.files+files > MaxExecutionFiles:
		return fmt.Sprintf("The execution would store %d files; the limit is %d.", a.files+files, MaxExecutionFiles), false
	}
	a.files += files
	a.bytes += bytes
	return "", true
}

// Release gives room back.
func (a *Account) Release(files int, bytes int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.files -= files
	a.bytes -= bytes
}

// Replace takes room for a checkpoint that takes the place of older ones of its node, given oldest first, and returns those that are to be
// dropped: all but the Keep-1 newest, and these too where there is no room otherwise. They are of the account until the caller releases them,
// but do not stand in the way: for the moment until they are dropped, the execution may have more than its limit.
func (a *Account) Replace(older []Stored, files int, bytes int64) (drop []Stored, why string, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := max(len(older)-(Keep-1), 0)
	kept := a.bytes
	for _, c := range older[:n] {
		kept -= c.Size
	}
	for ; n < len(older) && kept+bytes > MaxExecution; n++ {
		kept -= older[n].Size
	}
	switch {
	case kept+bytes > MaxExecution:
		return nil, fmt.Sprintf("The execution would store %d bytes; the limit is %d (128 MiB).", kept+bytes, MaxExecution), false
	case a.files+files > MaxExecutionFiles:
		return nil, fmt.Sprintf("The execution would store %d files; the limit is %d.", a.files+files, MaxExecutionFiles), false
	}
	a.files += files
	a.bytes += bytes
	return older[:n:n], "", true
}
