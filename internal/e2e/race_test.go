//go:build race

package e2e

// raceFlags make the binary under test report data races too.
func raceFlags() []string { return []string{"-race"} }
