package artifact

import "testing"

func TestAccount(t *testing.T) {
	t.Parallel()
	a := &Account{}
	if why, ok := a.Reserve(1, MaxExecution); !ok {
		t.Fatal(why)
	}
	if why, ok := a.Reserve(1, 1); ok || why != "The execution would store 134217729 bytes; the limit is 134217728 (128 MiB)." {
		t.Errorf("one byte more: %v, %q", ok, why)
	}
	if _, ok := a.Reserve(1, 0); !ok {
		t.Error("an empty file is refused")
	}
	a.Release(2, MaxExecution)
	if why, ok := a.Reserve(MaxExecutionFiles+1, 0); ok || why != "The execution would store 10001 files; the limit is 10000." {
		t.Errorf("too many files: %v, %q", ok, why)
	}
	if a.files != 0 || a.bytes != 0 {
		t.Errorf("a refusal takes room: %+v", a)
	}
}

func TestCheckpointsTakeTheirPlaces(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	for name, c := range map[string]struct {
		others int64   // MiB
		older  []int64 // MiB
		size   int64   // MiB
		drop   int     // of the older ones, from the oldest; -1: no room
	}{
		"the first":                          {0, nil, 10, 0},
		"the second":                         {0, []int64{10}, 10, 0},
		"the third":                          {0, []int64{10, 10}, 10, 1},
		"one whose predecessor has no room":  {0, []int64{70}, 70, 1},
		"one that fills it":                  {0, []int64{60}, 68, 0},
		"one beside artifacts":               {100, []int64{14, 14}, 14, 1},
		"one beside artifacts, a bit larger": {100, []int64{14, 14}, 15, 2},
		"one that has no room at all":        {100, []int64{14, 14}, 29, -1},
		"one that is too large":              {0, nil, 129, -1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := &Account{bytes: c.others * mib}
			var older []Stored
			for i, size := range c.older {
				older = append(older, Stored{Number: i + 1, Size: size * mib})
				a.bytes += size * mib
			}
			before := a.bytes
			drop, why, ok := a.Replace(older, 1, c.size*mib)
			if !ok {
				if c.drop >= 0 || why == "" || a.bytes != before {
					t.Fatalf("refused: %q, %d bytes", why, a.bytes)
				}
				return
			}
			if len(drop) != c.drop || len(drop) > 0 && drop[0].Number != 1 {
				t.Fatalf("drops %+v", drop)
			}
			for _, s := range drop {
				a.Release(0, s.Size)
			}
			if a.bytes > MaxExecution {
				t.Errorf("%d bytes stay", a.bytes)
			}
		})
	}
}

// TestManyGenerations holds that a run of 1,000 checkpoints of half the limit never runs out of room.
func TestManyGenerations(t *testing.T) {
	t.Parallel()
	a := &Account{}
	var older []Stored
	for n := range 1000 {
		drop, why, ok := a.Replace(older, 3, MaxExecution/2)
		if !ok {
			t.Fatalf("generation %d: %s", n+1, why)
		}
		for _, s := range drop {
			a.Release(3, s.Size)
		}
		older = append(older[len(drop):], Stored{Number: n + 1, Size: MaxExecution / 2})
	}
	if len(older) != Keep || a.files != 3*Keep || a.bytes != MaxExecution {
		t.Errorf("%d are left, %+v", len(older), a)
	}
}
