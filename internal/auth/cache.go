package auth

import (
	"sync"
	"time"
)

// maxKept bounds the cache. A control plane sees a few dozen tokens; beyond this, some are looked up again.
const maxKept = 1000

// cache remembers who tokens act for, so that a stream of requests is not a stream of look-ups.
type cache struct {
	limit int

	mu      sync.Mutex
	entries map[digest]kept
}

type kept struct {
	principal Principal
	until     time.Time // of this process's clock
}

func newCache(limit int) *cache {
	return &cache{limit: limit, entries: make(map[digest]kept)}
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

func (c *cache) put(d digest, p Principal, until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.entries) >= c.limit {
		c.makeRoom()
	}
	c.entries[d] = kept{principal: p, until: until}
}

func (c *cache) drop(d digest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.entries, d)
}

// clear drops everything: roles have changed.
func (c *cache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.entries)
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
