package auth

import (
	"sync"
	"time"
)

// maxKept bounds the cache. A control plane sees a few dozen tokens; beyond this, some are looked up again.
const maxKept = 1000

// cache remembers who tokens act for, so that a stream of requests is not a stream of look-ups.
//
// What is looked up while rights are taken away may be of before or after. So an answer is kept only if nothing was dropped since
// its look-up began:
//
//	since := c.now()      // then look up
//	c.put(…, since)
type cache struct {
	limit int

	mu      sync.Mutex
	entries map[digest]kept
	dropped chan struct{} // closed when everything is dropped, and made anew
}

type kept struct {
	principal Principal
	until     time.Time // of this process's clock
}

func newCache(limit int) *cache {
	return &cache{limit: limit, entries: make(map[digest]kept), dropped: make(chan struct{})}
}

func (c *cache) get(d digest, now time.Time) (Principal, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	entry, ok := c.entries[d]
	if !ok || !now.Before(entry.until) {
		delete(c.entries, d)
		return Principal{}, false
	}
	return entry.principal, true
}

// now returns a channel that is closed by the next drop.
func (c *cache) now() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dropped
}

func (c *cache) put(d digest, entry kept, since <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if since != c.dropped {
		return
	}
	if len(c.entries) >= c.limit {
		c.makeRoom()
	}
	c.entries[d] = entry
}

// drop forgets everything: rights may have been taken away, which is rare, and a look-up is cheap.
func (c *cache) drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.entries)
	close(c.dropped)
	c.dropped = make(chan struct{})
}

// makeRoom drops what has run out and, if that is nothing, any one entry: map order is as good as another.
func (c *cache) makeRoom() {
	now := time.Now()
	for d, entry := range c.entries {
		if !now.Before(entry.until) {
			delete(c.entries, d)
		}
	}
	for d := range c.entries {
		if len(c.entries) < c.limit {
			return
		}
		delete(c.entries, d)
	}
}
