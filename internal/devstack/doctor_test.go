package devstack

import (
	"net/url"
	"strings"
	"testing"

	"foundry/internal/config"
	"foundry/internal/errs"
	"foundry/internal/pgtest"
	"foundry/internal/postgres"
	"foundry/internal/secret"
)

// examine returns the findings by name; those that are wrong are told apart.
func examine(t *testing.T, d Doctor) (well, wrong map[string]string) {
	t.Helper()
	well, wrong = map[string]string{}, map[string]string{}
	for _, f := range d.Examine(t.Context()) {
		if f.Detail == "" {
			t.Errorf("%s has no sentence", f.Name)
		}
		if f.OK {
			well[f.Name] = f.Detail
		} else {
			wrong[f.Name] = f.Detail
		}
	}
	return well, wrong
}

func doctor(t *testing.T, database string) Doctor {
	t.Helper()
	return Doctor{DatabaseURL: database, DirectURL: database, Sandbox: config.Sandbox{Kind: config.SandboxLocal, Local: config.LocalProcess, StateDir: t.TempDir()}}
}

func TestDoctor(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	d := doctor(t, database)
	d.Secrets.Keys = config.EncryptionKeys(secret.NewKey("one"))
	well, wrong := examine(t, d)
	if len(wrong) > 0 || len(well) != 7 {
		t.Fatalf("of a sound installation it finds %v wrong, and %v well", wrong, well)
	}
	if !strings.Contains(well["connections"], "1 control planes and 1 workers need up to 18 connections") {
		t.Errorf("connections: %s", well["connections"])
	}

	pool := pgtest.Open(t, database, postgres.Options{})
	pgtest.Exec(t, pool, "UPDATE installation SET home = 'another/1'")
	d.Secrets.Keys = config.EncryptionKeys(secret.NewKey("one")) // another one of that name
	well, wrong = examine(t, d)
	if len(well) != 5 || !strings.Contains(wrong["adoption"], "doctor --adopt") || !strings.Contains(wrong["keys"], `"one"`) {
		t.Errorf("of a copy with a wrong key it finds %v wrong", wrong)
	}
	for _, want := range []bool{true, false} {
		if adopted, err := Adopt(t.Context(), database); err != nil || adopted != want {
			t.Errorf("adopting: %v, %v", adopted, err)
		}
	}
	if _, wrong = examine(t, d); wrong["adoption"] != "" {
		t.Errorf("after it was adopted: %s", wrong["adoption"])
	}
}

func TestDoctorWithoutDatabaseOrSchema(t *testing.T) {
	t.Parallel()
	well, wrong := examine(t, doctor(t, pgtest.Empty(t)))
	if len(well) != 1 || len(wrong) != 1 || wrong["schema"] == "" {
		t.Errorf("without a schema: %v wrong, %v well", wrong, well)
	}
	nowhere, err := url.Parse(pgtest.Empty(t))
	if err != nil {
		t.Fatal(err)
	}
	nowhere.Path = "/there_is_no_such_database"
	well, wrong = examine(t, doctor(t, nowhere.String()))
	if len(well) != 0 || len(wrong) != 1 || wrong["database"] == "" {
		t.Errorf("without a database: %v wrong, %v well", wrong, well)
	}
}

func TestDoctorCountsConnections(t *testing.T) {
	t.Parallel()
	if text, err := (server{connections: 97, controlPlanes: 2, workers: 12}).judge(); err != nil || !strings.Contains(text, "need up to 96 connections") {
		t.Errorf("%q, %v", text, err)
	}
	if _, err := (server{connections: 97, controlPlanes: 2, workers: 13}).judge(); !errs.Is(err, errs.Unavailable) {
		t.Errorf("102 of 97 connections are %v", err)
	}
}
