package leaktest_test

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"foundry/internal/leaktest"
)

// lateArg makes the test binary one whose tests leave a goroutine that ends late.
const lateArg = "late"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == lateArg {
		leaktest.Main(lateTests{})
		return
	}
	leaktest.Main(m)
}

type lateTests struct{}

func (lateTests) Run() int {
	go func() { <-time.After(3 * time.Second) }()
	return 0
}

func TestMainWaitsForGoroutines(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), self, lateArg).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
