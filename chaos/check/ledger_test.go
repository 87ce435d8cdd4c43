package check_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"foundry/chaos/check"
)

func TestReadLedger(t *testing.T) {
	t.Parallel()
	id := uuid.New()
	for name, c := range map[string]struct {
		file, text string
		want       []check.Note
	}{
		"notes": {id.String(), "n0 0 1 begin 1700000000.500000\nreport 3 12 end 1700000001.250000\n", []check.Note{
			{Node: "n0", Attempt: 1, Word: "begin", At: time.Unix(1700000000, 5e8)},
			{Node: "report", Index: 3, Attempt: 12, Word: "end", At: time.Unix(1700000001, 25e7)},
		}},
		"a torn line":     {id.String(), "n0 0 1 begin 1700000000.5\nn0 0 1 en", nil},
		"no attempt":      {id.String(), "n0 0 x begin 1700000000.5\n", nil},
		"no index":        {id.String(), "n0 1 begin 1700000000.5\n", nil},
		"no time":         {id.String(), "n0 0 1 begin now\n", nil},
		"of no execution": {"x", "n0 0 1 begin 1700000000.5\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, c.file), []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			notes, err := check.ReadLedger(dir)
			if (err == nil) != (c.want != nil) {
				t.Fatalf("%v, %v", notes, err)
			}
			if diff := cmp.Diff(c.want, notes[id]); diff != "" {
				t.Error(diff)
			}
		})
	}
}
