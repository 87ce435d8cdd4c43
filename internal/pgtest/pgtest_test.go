package pgtest_test

import (
	"testing"

	"foundry/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestPool(t *testing.T) {
	t.Parallel()
	t.Run("is migrated", func(t *testing.T) {
		t.Parallel()
		var n int
		if err := pgtest.Pool(t).QueryRow(t.Context(), "SELECT count(*) FROM installation").Scan(&n); err != nil || n != 1 {
			t.Fatalf("installation has %d rows, %v", n, err)
		}
	})
}
