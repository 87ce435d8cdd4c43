package failpoint

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"foundry/internal/errs"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]Rule{
		"": nil,
		" journal.commit.before=kill:0.002 ; provider.create.after=delay:500ms:0.1;;shim.start.before=twice": {
			{"journal.commit.before", Kill, 0, 0.002}, {"provider.create.after", Delay, 500 * time.Millisecond, 0.1}, {"shim.start.before", Twice, 0, 1},
		},
		"*.after=fail:1": {{"*.after", Fail, 0, 1}},
	} {
		got, err := Parse(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: -want +got\n%s", text, diff)
		}
	}
	for _, text := range []string{
		"a.b.before", "=kill", "[=kill", "a.b.before=explode", "a.b.before=delay", "a.b.before=delay:0.5", "a.b.before=delay:-1s",
		"a.b.before=kill:0", "a.b.before=kill:1.1", "a.b.before=kill:often", "a.b.before=kill:NaN", "a.b.before=kill:0.1:0.2",
	} {
		if rules, err := Parse("x.y.after=kill;" + text); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", text)) {
			t.Errorf("%q: %v, %v", text, rules, err)
		}
	}
}

func TestPlanAnswers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var fired []string
		p := plan(t, "shim.*.before=delay:3s;*.before=delay:1s;shim.start.before=twice;*.after=fail;*.before=fail;*=kill", 1, func(name string, a Action) {
			fired = append(fired, name+" "+string(a))
		})
		p.kill = func() { t.Error("killed") }
		began := time.Now()
		if a := p.Hook(t.Context(), "shim.start.before"); a != (Answer{Twice: true}) {
			t.Errorf("start: %+v", a)
		}
		if d := time.Since(began); d != 4*time.Second {
			t.Errorf("the delays add up to %v", d)
		}
		if a := p.Hook(t.Context(), "journal.commit.before"); !errs.Is(a.Err, errs.Unavailable) {
			t.Errorf("before: %+v", a)
		}
		if a := p.Hook(t.Context(), "journal.commit.after"); !errs.Is(a.Err, errs.Unknown) {
			t.Errorf("after: %+v", a)
		}
		want := []string{
			"shim.start.before delay", "shim.start.before delay", "shim.start.before twice",
			"journal.commit.before delay", "journal.commit.before fail", "journal.commit.after fail",
		}
		if !slices.Equal(fired, want) {
			t.Errorf("fired %q", fired)
		}
	})
}

func TestDelayEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		plan(t, "*=delay:1h", 1, nil).Hook(ctx, "a.b.before")
		if d := time.Since(began); d != time.Second {
			t.Errorf("waited %v", d)
		}
	})
}

func TestKillKills(t *testing.T) {
	t.Parallel()
	p := plan(t, "a.b.before=kill", 1, nil)
	killed := 0
	p.kill = func() { killed++ }
	p.Hook(t.Context(), "a.b.after")
	p.Hook(t.Context(), "a.b.before")
	if killed != 1 {
		t.Errorf("killed %d times", killed)
	}
}

func TestDrawsFollowTheSeed(t *testing.T) {
	t.Parallel()
	draw := func(seed uint64) (hits []int) {
		p := plan(t, "a.b.before=twice:0.25", seed, nil)
		for i := range 4000 {
			if p.Hook(t.Context(), "a.b.before").Twice {
				hits = append(hits, i)
			}
		}
		return hits
	}
	first := draw(1)
	if !slices.Equal(first, draw(1)) {
		t.Error("one seed draws differently")
	}
	if slices.Equal(first, draw(2)) {
		t.Error("two seeds draw the same")
	}
	if n := len(first); n < 800 || n > 1200 {
		t.Errorf("%d of 4000 draws at 0.25", n)
	}
}

func plan(t *testing.T, text string, seed uint64, fired func(string, Action)) *Plan {
	t.Helper()
	rules, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return NewPlan(rules, seed, fired)
}
