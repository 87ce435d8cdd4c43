package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"foundry/internal/pgtest"
	"foundry/internal/secret"
)

// TestRekeyOfMixedKeys changes the key as docs/secrets.md says, while the control plane runs.
func TestRekeyOfMixedKeys(t *testing.T) {
	t.Parallel()
	a, b := secret.NewKey("a"), secret.NewKey("b")
	i := vault(t, a)
	rekey := func(keys ...string) *proc {
		p := spawn(t, i.dir, environ("DATABASE_URL="+i.database, keysVariable+strings.Join(keys, ",")), nil, "secrets", "rekey")
		p.wait()
		return p
	}
	reveals := func(when string, n int) {
		for k := range n {
			if p := i.secrets("", "reveal", fmt.Sprintf("KEY_%d", k)); p.out.String() != fmt.Sprintf("value-number-%d\n", k) {
				t.Errorf("%s, KEY_%d reads %q %q", when, k, p.out.String(), p.err.String())
			}
		}
	}
	set := func(k int) {
		i.secrets(fmt.Sprintf("value-number-%d", k), "set", fmt.Sprintf("KEY_%d", k)).wants(0, "version 1", "")
	}
	set(0)
	set(1)
	i.serveWith(a, b)
	reveals("with the new key at the end", 2)
	i.serveWith(b, a)
	set(2) // with b, while the others are still encrypted with a

	blind := rekey(b)
	blind.wants(1, "0 values were brought to the first key.\n", "2 values are encrypted with keys that FOUNDRY_ENCRYPTION_KEYS does not have.")
	rekey().wants(1, "", "There are no encryption keys")
	reveals("after attempts in vain", 3)

	rekey(b, a).wants(0, "2 values were brought to the first key.\n", "2 changed")
	reveals("while the control plane has both", 3)
	rekey(b, a).wants(0, "0 values were brought to the first key.\n", "")
	i.serveWith(b)
	reveals("without the old key", 3)
}

func TestProcessesRefuseAWrongKey(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	right, wrong := secret.NewKey("a"), secret.NewKey("a")
	run := func(t *testing.T, keys string, args ...string) *proc {
		dir := t.TempDir()
		p := spawn(t, dir, environ("DATABASE_URL="+database, "PORT=0", "FOUNDRY_STATE_DIR="+filepath.Join(dir, "state"), keysVariable+keys), nil, args...)
		p.wait()
		return p
	}
	run(t, right, "secrets", "rekey").wants(0, "0 values", "") // leaves the key's sentinel behind
	tests := []struct{ name, keys, sentence string }{
		{"another key of that name", wrong, `The encryption key "a" is not the key of that name that this database was used with; put the former value back into FOUNDRY_ENCRYPTION_KEYS`},
		{"another key of that name, behind a new one", secret.NewKey("b") + "," + wrong, `The encryption key "a" is not the key of that name`},
		{"no id", strings.TrimPrefix(wrong, "a:"), "Encryption key 1 is not of the form id:base64"},
		{"a short key", "a:c2hvcnQ=", `The encryption key "a" is not the base64 of 32 bytes`},
		{"twice the same id", right + "," + wrong, `Two encryption keys have the id "a".`},
	}
	for _, tt := range tests {
		for _, args := range [][]string{{"serve"}, {"worker"}, {"secrets", "rekey"}} {
			t.Run(tt.name+" for "+args[len(args)-1], func(t *testing.T) {
				t.Parallel()
				p := run(t, tt.keys, args...)
				if p.code() != 1 || !strings.Contains(p.err.String(), "foundry: "+tt.sentence) {
					t.Errorf("exit code %d, stderr %q; want 1 and %q", p.code(), p.err.String(), tt.sentence)
				}
				for _, key := range []string{right, wrong} {
					if _, encoded, _ := strings.Cut(key, ":"); strings.Contains(p.err.String()+p.out.String(), encoded) {
						t.Error("it tells a key")
					}
				}
			})
		}
	}
}
