package auth

import (
	"testing"
	"time"
)

func TestCacheForgetsInTime(t *testing.T) {
	t.Parallel()
	c, now := newCache(10), time.Now()
	c.put(digest{1}, Principal{Name: "one"}, now.Add(time.Second))
	if p, ok := c.get(digest{1}, now); !ok || p.Name != "one" {
		t.Errorf("within its time the entry is %v, %v", p, ok)
	}
	if _, ok := c.get(digest{1}, now.Add(time.Second)); ok {
		t.Error("the entry outlived its time")
	}
	if _, ok := c.get(digest{1}, now); ok {
		t.Error("an entry that ran out came back")
	}
}

func TestCacheStaysBounded(t *testing.T) {
	t.Parallel()
	c, later := newCache(10), time.Now().Add(time.Hour)
	c.put(digest{0: 255}, Principal{}, time.Now().Add(-time.Second))
	for i := range byte(100) {
		c.put(digest{i}, Principal{Name: "new"}, later)
		if len(c.entries) > 10 {
			t.Fatalf("%d entries, want at most 10", len(c.entries))
		}
		if _, ok := c.get(digest{i}, time.Now()); !ok {
			t.Fatal("the newest entry was dropped")
		}
	}
}
