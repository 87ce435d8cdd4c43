package devstack

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"foundry/internal/errs"
)

func TestStateIsPrivateAndWhole(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := ReadState(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an empty folder gives %v, want not exist", err)
	}
	want := State{URL: "http://127.0.0.1:1", Token: "fdy_x", DatabaseURL: "postgres://x", PID: 7}
	for range 2 { // the second one replaces the first
		if err := want.write(dir); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := ReadState(dir); err != nil || got != want {
		t.Errorf("read %+v (%v), want %+v", got, err, want)
	}
	info, err := os.Stat(filepath.Join(dir, stateFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v (%v), want 0600", info.Mode(), err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("%d files are left (%v), want one", len(entries), err)
	}
}

func TestStateThatCannotBeRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, stateFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadState(dir); !errs.Is(err, errs.Invalid) {
		t.Errorf("got %v, want an error for a person", err)
	}
}

func TestOneInstallationInAFolder(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), Dir)
	first, err := prepare(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := (State{URL: "http://127.0.0.1:1", PID: 7}).write(dir); err != nil {
		t.Fatal(err)
	}
	_, err = prepare(dir)
	if !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), "http://127.0.0.1:1, as process 7") {
		t.Errorf("the second one gets %v, want a sentence that names the first", err)
	}
	first.Close()
	second, err := prepare(dir)
	if err != nil {
		t.Fatalf("after the first has gone: %v", err)
	}
	second.Close()
	if text, err := os.ReadFile(filepath.Join(dir, ".gitignore")); err != nil || string(text) != "*\n" {
		t.Errorf(".gitignore is %q (%v), want *", text, err)
	}
}
