// Package leaktest fails the tests of a package that leave goroutines behind.
package leaktest

import (
	"time"

	"go.uber.org/goleak"
)

// patience is how long goroutines may take to end. It costs nothing where they do.
const patience = time.Minute

// Main runs a package's tests and then fails if goroutines are left, which have a minute to end: goleak itself has half a second for them. The
// only option is goleak.Cleanup.
func Main(m goleak.TestingM, options ...goleak.Option) {
	goleak.VerifyTestMain(patient{m}, options...)
}

type patient struct{ goleak.TestingM }

// Run implements goleak.TestingM.
func (p patient) Run() int {
	code := p.TestingM.Run()
	if code != 0 {
		return code
	}
	for deadline := time.Now().Add(patience); goleak.Find() != nil; { // Find waits between its looks
		if time.Now().After(deadline) {
			break
		}
	}
	return code
}
