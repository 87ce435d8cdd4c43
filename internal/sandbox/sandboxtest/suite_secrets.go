package sandboxtest

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
)

func testSecretsHidden(t *testing.T, h Harness) {
	if !h.Here {
		t.Skip("processes and files are not on this machine")
	}
	b := newBox(t, h)
	secret := "secret-" + uuid.NewString()
	id := b.script(`[ -n "$TOKEN" ] && echo up; sleep 1000`, "TOKEN="+secret)
	b.until(id, "up")
	if found := processesWith(secret); len(found) > 0 {
		t.Fatalf("the secret is in the arguments of %v", found)
	}
	err := filepath.WalkDir(filepath.Dir(b.info.ShimRoot), func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(name)
		if strings.Contains(string(content), secret) {
			t.Errorf("the secret is in %s", name)
		}
		return err
	})
	noError(t, err)
}

// A workflow's LD_PRELOAD is for its command; the programs before it run with all of
// the worker's rights.
func testLinkerVariables(t *testing.T, h Harness) {
	b := newBox(t, h)
	tr := b.follow(b.script("echo $LD_PRELOAD $GODEBUG $BASH_ENV_X", "LD_PRELOAD=/no/such/library.so", "GODEBUG=inittrace=1", "BASH_ENV_X=1"))
	equal(t, "stdout", tr.stdout.String(), "/no/such/library.so inittrace=1 1\n")
	if !h.Here {
		return
	}
	id := b.script("echo up; sleep 1000", "LD_PRELOAD=/no/such/library.so")
	b.until(id, "up")
	environ, err := os.ReadFile("/proc/" + supervisorOf(t, b.shim.Dir(id)) + "/environ")
	noError(t, err)
	for entry := range strings.SplitSeq(string(environ), "\x00") {
		if strings.HasPrefix(entry, "LD_PRELOAD=") {
			t.Fatalf("the supervisor has %s", entry)
		}
	}
}
