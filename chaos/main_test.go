package chaos

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	// The binary is built by a child of the test, which Go's test cache does not see. This import
	// makes a change of the program a change of the test.
	_ "foundry/internal/cli"
	"foundry/internal/lifecycle"
	"foundry/internal/pgtest"
)

// What `go test ./chaos` takes, and the program under test, built by the first test that wants it.
//
//nolint:gochecknoglobals // flags, and one binary for all tests of this process
var (
	seedFlag  = flag.Uint64("seed", 0, "repeat the plan of a run; 0 draws a new one")
	formFlag  = flag.String("form", "", "smoke, short or long; empty is smoke, or short where FOUNDRY_REQUIRE lists chaos")
	longFlag  = flag.Bool("long", false, "the same as -form long: go on until -kills have been made")
	killsFlag = flag.Int("kills", 2000, "how many kills the long form makes")
	levelFlag = flag.String("level", "", "the level of the local sandbox: bwrap or process; empty is what works")
	keepFlag  = flag.Bool("keep", false, "leave logs and the database behind")

	buildDir string
	binary   = sync.OnceValues(build)
)

func TestMain(m *testing.M) {
	pgtest.Main(m, goleak.Cleanup(func(code int) {
		if buildDir != "" {
			_ = os.RemoveAll(buildDir) // a temporary folder
		}
		os.Exit(code) //nolint:forbidigo // goleak leaves the exit to whoever cleans up
	}))
}

// build makes the program, without the race detector whatever the test has: its slowness would hide what timing shows.
func build() (string, error) {
	dir, err := os.MkdirTemp("", "foundry-chaos-bin-")
	if err != nil {
		return "", err
	}
	buildDir = dir
	name := filepath.Join(dir, "foundry")
	if out, err := exec.CommandContext(context.Background(), "go", "build", "-o", name, "foundry/cmd/foundry").CombinedOutput(); err != nil {
		return "", fmt.Errorf("building foundry: %w\n%s", err, out)
	}
	return name, nil
}

// eventually waits until check returns nil, or returns its last error.
func eventually(ctx context.Context, limit time.Duration, check func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := check()
		if err == nil {
			return nil
		}
		if !lifecycle.Sleep(ctx, 100*time.Millisecond) {
			return fmt.Errorf("after %s: %w", limit, err)
		}
	}
}
