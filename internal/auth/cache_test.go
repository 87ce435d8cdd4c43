package auth

import (
	"context"
	"errors"
	"testing"
	"time"

	"foundry/internal/pgtest"
)

func TestKnownTokensAreNotLookedUpAgain(t *testing.T) {
	t.Parallel()
	store := NewStore(pgtest.Pool(t))
	store.keepFor = time.Hour // so that no delay of this test outlasts it
	token, err := store.Create(t.Context(), organization(t, store), "ci", 0)
	if err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel() // a query fails
	if _, err := store.Authenticate(ended, token.Reveal()); !errors.Is(err, context.Canceled) {
		t.Fatalf("an unknown token: %v", err)
	}
	known, err := store.Authenticate(t.Context(), token.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	if again, err := store.Authenticate(ended, token.Reveal()); err != nil || *again.TokenID != *known.TokenID {
		t.Errorf("a known token needed a query: %+v, %v", again, err)
	}
}

func TestCacheForgetsInTime(t *testing.T) {
	t.Parallel()
	c, now := newCache(10), time.Now()
	c.put(digest{1}, kept{Principal{Name: "one"}, now.Add(time.Second)}, c.now())
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
	c.put(digest{0: 255}, kept{Principal{}, time.Now().Add(-time.Second)}, c.now())
	for i := range byte(100) {
		c.put(digest{i}, kept{Principal{Name: "new"}, later}, c.now())
		if len(c.entries) > 10 {
			t.Fatalf("%d entries, want at most 10", len(c.entries))
		}
		if _, ok := c.get(digest{i}, time.Now()); !ok {
			t.Fatal("the newest entry was dropped")
		}
	}
}

func TestCacheKeepsNothingThatWasAskedBeforeADrop(t *testing.T) {
	t.Parallel()
	c, later := newCache(10), time.Now().Add(time.Hour)
	before := c.now()
	c.put(digest{1}, kept{until: later}, before)
	c.drop()
	select {
	case <-before:
	default:
		t.Error("who waits for a drop is not told")
	}
	if _, ok := c.get(digest{1}, time.Now()); ok {
		t.Error("an entry outlived the drop")
	}
	c.put(digest{2}, kept{until: later}, before)
	if _, ok := c.get(digest{2}, time.Now()); ok {
		t.Error("a look-up from before the drop was kept")
	}
	c.put(digest{2}, kept{until: later}, c.now())
	if _, ok := c.get(digest{2}, time.Now()); !ok {
		t.Error("a look-up from after the drop was not kept")
	}
}
