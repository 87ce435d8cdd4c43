package config

import "time"

// Lease is how long a worker's right to its executions lasts after a renewal, from a second to ten minutes. All
// processes of an installation are told the same.
type Lease time.Duration

// UnmarshalText reads a duration.
func (l *Lease) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	if err != nil || d < time.Second || d > 10*time.Minute {
		return wants("must be a duration between 1s and 10m")
	}
	*l = Lease(d)
	return nil
}
