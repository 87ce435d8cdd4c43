package cli

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"foundry/internal/errs"
	"foundry/internal/pgtest"
	"foundry/internal/postgres"
	"foundry/internal/retention"
)

func TestPrintPurge(t *testing.T) {
	t.Parallel()
	before := time.Date(2027, 2, 1, 12, 0, 0, 0, time.UTC)
	earlier, later := before.Add(-time.Hour), before.Add(time.Hour)
	id := uuid.MustParse("01890000-0000-7000-8000-000000000001")
	day := func(n int) time.Time { return time.Date(2027, 1, n, 0, 0, 0, 0, time.UTC) }
	r := &retention.Report{
		Before: before,
		Gone:   []retention.Day{{Date: day(1), Executions: 12, Bytes: 3 << 19}},
		Kept: []retention.Day{
			{Date: day(2), Executions: 1, Keeper: &retention.Keeper{ID: id, Status: "waiting"}},
			{Date: day(3), Keeper: &retention.Keeper{ID: id, Status: "failed", EndedAt: &later}},
			{Date: day(4), Keeper: &retention.Keeper{ID: id, Status: "failed", EndedAt: &earlier}},
		},
		Swept: []retention.Sweep{{Kind: "sessions", Rows: 2}, {Kind: "tokens", Rows: 1}},
	}
	var out bytes.Buffer
	a := &app{}
	a.Out = &out
	if err := a.printPurge(r, false); err != nil {
		t.Fatal(err)
	}
	want := `DAY         EXECUTIONS  MIB  WHAT
2027-01-01  12          1.5  dropped
2027-01-02  1           0.0  kept: execution 01890000-0000-7000-8000-000000000001 is waiting
2027-01-03  0           0.0  kept: execution 01890000-0000-7000-8000-000000000001 ended only 2027-02-01
2027-01-04  0           0.0  kept: the sandbox of execution 01890000-0000-7000-8000-000000000001 is needed yet
Other rows deleted: sessions 2, tokens 1.
`
	if out.String() != want {
		t.Errorf("printed\n%s\nwant\n%s", &out, want)
	}
	out.Reset()
	a.json = true
	if err := a.printPurge(r, true); err != nil {
		t.Fatal(err)
	}
	var got purgeJSON
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if !got.DryRun || len(got.Gone) != 1 || len(got.Kept) != 3 || *got.Kept[0].KeptBy != id || got.Swept["sessions"] != 2 {
		t.Errorf("printed %s", &out)
	}
	out.Reset()
	if err := (&app{IO: a.IO}).printPurge(&retention.Report{Before: before}, false); err != nil || !strings.Contains(out.String(), "No day") {
		t.Errorf("nothing to purge: %q, %v", &out, err)
	}
}

// TestPurgeNeedsNoServer runs the command's work on a database that nobody serves.
func TestPurgeNeedsNoServer(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	pool := pgtest.Open(t, url, postgres.Options{})
	day := pgtest.Get[time.Time](t, pool, "SELECT (now() AT TIME ZONE 'UTC')::date - 40")
	pgtest.Exec(t, pool, "SELECT make_partitions($1)", day)
	for _, c := range []struct {
		o    retention.Options
		want string
	}{
		{retention.Options{Days: 30, DryRun: true}, "would be dropped"},
		{retention.Options{Before: day}, "No day of history is old enough."},
		{retention.Options{Days: 30}, " dropped\n"},
		{retention.Options{Days: 30}, "No day of history is old enough."},
	} {
		var out bytes.Buffer
		a := &app{}
		a.Out = &out
		if err := a.purgeOn(t.Context(), url, c.o); err != nil || !strings.Contains(out.String(), c.want) {
			t.Errorf("%+v: printed %q, %v; want %q", c.o, &out, err, c.want)
		}
	}
	var out bytes.Buffer
	a := &app{}
	a.Out = &out
	if err := a.purgeOn(t.Context(), url, retention.Options{Before: time.Now().AddDate(0, 0, 1)}); !errs.Is(err, errs.Validation) || out.Len() > 0 {
		t.Errorf("before tomorrow: printed %q, %v", &out, err)
	}
}
