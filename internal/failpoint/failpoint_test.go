package failpoint_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"foundry/internal/failpoint"
)

var errHook, errEffect = errors.New("the hook's"), errors.New("the effect's")

func TestPoints(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answers map[string]failpoint.Answer
		effect  error
		once    int // effects of Around
		call    int // effects of Call
		err     error
	}{
		"go on":               {nil, nil, 1, 1, nil},
		"the effect fails":    {nil, errEffect, 1, 1, errEffect},
		"fail before":         {map[string]failpoint.Answer{"a.b.before": {Err: errHook}}, nil, 0, 0, errHook},
		"fail after":          {map[string]failpoint.Answer{"a.b.after": {Err: errHook}}, nil, 1, 1, errHook},
		"both fail":           {map[string]failpoint.Answer{"a.b.after": {Err: errHook}}, errEffect, 1, 1, errEffect},
		"twice":               {map[string]failpoint.Answer{"a.b.before": {Twice: true}}, nil, 1, 2, nil},
		"another point fails": {map[string]failpoint.Answer{"a.c.before": {Err: errHook}}, nil, 1, 1, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked []string
			ctx := failpoint.With(t.Context(), func(_ context.Context, name string) failpoint.Answer {
				asked = append(asked, name)
				return c.answers[name]
			})
			effects := 0
			err := failpoint.Around(ctx, "a.b", func() error { effects++; return c.effect })
			if !errors.Is(err, c.err) || effects != c.once {
				t.Errorf("Around: %v with %d effects, want %v with %d", err, effects, c.err, c.once)
			}
			effects = 0
			answer, err := failpoint.Call(ctx, "a.b", func() (int, error) { effects++; return effects, c.effect })
			if !errors.Is(err, c.err) || effects != c.call {
				t.Errorf("Call: %v with %d effects, want %v with %d", err, effects, c.err, c.call)
			}
			if want := effects; err == nil && answer != want || err != nil && answer != 0 {
				t.Errorf("Call answers %d after %d effects and %v", answer, effects, err)
			}
			want := []string{"a.b.before", "a.b.after"}
			if c.once == 0 {
				want = want[:1]
			}
			if want = slices.Concat(want, want); !slices.Equal(asked, want) {
				t.Errorf("asked %q, want %q", asked, want)
			}
		})
	}
}

func TestWithoutHook(t *testing.T) {
	t.Parallel()
	refuse := func(context.Context, string) failpoint.Answer { return failpoint.Answer{Err: errHook} }
	hooked := failpoint.With(t.Context(), refuse)
	for name, ctx := range map[string]context.Context{"none": t.Context(), "taken away": failpoint.With(hooked, nil)} {
		effects := 0
		if err := failpoint.Around(ctx, "a.b", func() error { effects++; return nil }); err != nil || effects != 1 {
			t.Errorf("%s: Around: %v, %d effects", name, err, effects)
		}
		if n, err := failpoint.Call(ctx, "a.b", func() (int, error) { return 7, nil }); err != nil || n != 7 {
			t.Errorf("%s: Call: %d, %v", name, n, err)
		}
		if a := failpoint.Hit(ctx, "a.b.before"); a != (failpoint.Answer{}) || failpoint.Active(ctx) {
			t.Errorf("%s: %+v", name, a)
		}
	}
	if !failpoint.Active(hooked) || !errors.Is(failpoint.Hit(hooked, "a.b.before").Err, errHook) {
		t.Error("the hook is not asked")
	}
}

// BenchmarkHit is the cost of a point: without a hook, below as many contexts as a commit of the journal has, and with one.
func BenchmarkHit(b *testing.B) {
	type other struct{ n int }
	deep := b.Context()
	for n := range 6 {
		deep = context.WithValue(deep, other{n}, n)
	}
	hooked := failpoint.With(deep, func(context.Context, string) failpoint.Answer { return failpoint.Answer{} })
	effect := func() error { return nil }
	for name, ctx := range map[string]context.Context{"without": deep, "with": hooked} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := failpoint.Around(ctx, "journal.commit", effect); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
