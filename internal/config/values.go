package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/rs/zerolog"
)

// Port is a TCP port; 0 lets the system choose.
type Port uint16

// UnmarshalText reads a port.
func (p *Port) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 10, 16)
	if err != nil {
		return wants("must be a port between 0 and 65535")
	}
	*p = Port(n)
	return nil
}

// Slots is how many executions a worker may hold at once, 1 to 1000.
type Slots int

// UnmarshalText reads a number of slots.
func (s *Slots) UnmarshalText(text []byte) error {
	n, err := strconv.Atoi(string(text))
	if err != nil || n < 1 || n > 1000 {
		return wants("must be a whole number between 1 and 1000")
	}
	*s = Slots(n)
	return nil
}

// RetentionDays is a number of days, at most 3650; 0 is for ever.
type RetentionDays int

// UnmarshalText reads a number of days.
func (d *RetentionDays) UnmarshalText(text []byte) error {
	n, err := strconv.Atoi(string(text))
	if err != nil || n < 0 || n > 3650 {
		return wants("must be a whole number of days between 0 and 3650")
	}
	*d = RetentionDays(n)
	return nil
}

// QueuedMax is how many executions of a workflow may be queued, 1 to 100,000.
type QueuedMax int

// UnmarshalText reads a number of executions.
func (q *QueuedMax) UnmarshalText(text []byte) error {
	n, err := strconv.Atoi(string(text))
	if err != nil || n < 1 || n > 100_000 {
		return wants("must be a whole number between 1 and 100000")
	}
	*q = QueuedMax(n)
	return nil
}

// RequestRate is a number of requests a second, 1 to 1,000,000.
type RequestRate int

// UnmarshalText reads a rate.
func (r *RequestRate) UnmarshalText(text []byte) error {
	n, err := strconv.Atoi(string(text))
	if err != nil || n < 1 || n > 1_000_000 {
		return wants("must be a whole number between 1 and 1000000")
	}
	*r = RequestRate(n)
	return nil
}

// DebugAddress is an IP address and a port of this machine that no other machine reaches, such as 127.0.0.1:6060.
type DebugAddress string

// UnmarshalText reads an address.
func (a *DebugAddress) UnmarshalText(text []byte) error {
	address, err := netip.ParseAddrPort(string(text))
	if err != nil || !address.Addr().IsLoopback() {
		return wants("must be a loopback address and a port, such as 127.0.0.1:6060")
	}
	*a = DebugAddress(text)
	return nil
}

// LogLevel is a level of zerolog.
type LogLevel struct{ zerolog.Level }

// UnmarshalText reads a level.
func (l *LogLevel) UnmarshalText(text []byte) error {
	level, err := zerolog.ParseLevel(string(text))
	if err != nil || level < zerolog.TraceLevel || level > zerolog.ErrorLevel {
		return wants("must be trace, debug, info, warn or error")
	}
	l.Level = level
	return nil
}

// Environment names an installation: any word of at most 40 letters, digits, dots, dashes and underscores.
type Environment string

// UnmarshalText reads a name.
func (e *Environment) UnmarshalText(text []byte) error {
	if !environmentForm().Match(text) {
		return wants("must be a word of at most 40 letters, digits, dots, dashes and underscores")
	}
	*e = Environment(text)
	return nil
}

func environmentForm() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9._-]{1,40}$`) }

// Switch is on or off.
type Switch string

// The positions of a switch.
const (
	On  Switch = "on"
	Off Switch = "off"
)

// UnmarshalText reads a position.
func (s *Switch) UnmarshalText(text []byte) error {
	position := Switch(text)
	if position != On && position != Off {
		return wants("must be on or off")
	}
	*s = position
	return nil
}

// SandboxKind says who makes sandboxes.
type SandboxKind string

// SandboxLocal makes them on this machine.
const SandboxLocal SandboxKind = "local"

// UnmarshalText reads a kind.
func (k *SandboxKind) UnmarshalText(text []byte) error {
	if SandboxKind(text) != SandboxLocal {
		return wants("must be local")
	}
	*k = SandboxKind(text)
	return nil
}

// LocalSandbox is a level of isolation of the local sandbox; empty: probe.
type LocalSandbox string

// The levels of isolation.
const (
	LocalBwrap   LocalSandbox = "bwrap"   // bubblewrap: own namespaces
	LocalProcess LocalSandbox = "process" // a plain process: no security boundary
)

// UnmarshalText reads a level.
func (l *LocalSandbox) UnmarshalText(text []byte) error {
	level := LocalSandbox(text)
	if level != LocalBwrap && level != LocalProcess {
		return wants("must be bwrap or process")
	}
	*l = level
	return nil
}

// Keep says which sandboxes outlive their execution.
type Keep string

// What may be kept.
const (
	KeepNever     Keep = "never"
	KeepOnFailure Keep = "on-failure" // of executions that did not complete
	KeepAlways    Keep = "always"
)

// UnmarshalText reads what is to be kept.
func (k *Keep) UnmarshalText(text []byte) error {
	keep := Keep(text)
	if keep != KeepNever && keep != KeepOnFailure && keep != KeepAlways {
		return wants("must be never, on-failure or always")
	}
	*k = keep
	return nil
}

// DatabaseURL is a connection string; it may hold a password, so it prints as [redacted].
// string(u) is its text.
type DatabaseURL string

// UnmarshalText reads a postgres:// URL.
func (u *DatabaseURL) UnmarshalText(text []byte) error {
	parsed, err := url.Parse(string(text))
	if err != nil || (parsed.Scheme != "postgres" && parsed.Scheme != "postgresql") {
		return wants("must be a URL that begins with postgres://")
	}
	*u = DatabaseURL(text)
	return nil
}

// String hides the text.
func (DatabaseURL) String() string { return "[redacted]" }

// GoString hides the text.
func (DatabaseURL) GoString() string { return "[redacted]" }

// Format hides the text, whatever the verb.
func (DatabaseURL) Format(s fmt.State, _ rune) { fmt.Fprint(s, "[redacted]") }

// MarshalText hides the text, in JSON too.
func (DatabaseURL) MarshalText() ([]byte, error) { return []byte("[redacted]"), nil }

// EncryptionKeys are key-encryption keys, id:base64[,id:base64…], which package secret reads. They print as
// [redacted]; string(k) is their text.
type EncryptionKeys string

// String hides the text.
func (EncryptionKeys) String() string { return "[redacted]" }

// GoString hides the text.
func (EncryptionKeys) GoString() string { return "[redacted]" }

// Format hides the text, whatever the verb.
func (EncryptionKeys) Format(s fmt.State, _ rune) { fmt.Fprint(s, "[redacted]") }

// MarshalText hides the text, in JSON too.
func (EncryptionKeys) MarshalText() ([]byte, error) { return []byte("[redacted]"), nil }

// UnmarshalText takes the text as it is.
func (k *EncryptionKeys) UnmarshalText(text []byte) error {
	*k = EncryptionKeys(text)
	return nil
}

// PublicURL is where people and callbacks reach the control plane, without a slash at
// the end; empty: unknown.
type PublicURL string

// UnmarshalText reads an http or https URL.
func (u *PublicURL) UnmarshalText(text []byte) error {
	parsed, err := url.Parse(string(text))
	if err != nil || (parsed.Scheme != "http" && parsed.Scheme != "https") || parsed.Host == "" ||
		parsed.RawQuery != "" || parsed.Fragment != "" {
		return wants("must be a URL that begins with http:// or https://, without query and fragment")
	}
	*u = PublicURL(strings.TrimRight(string(text), "/"))
	return nil
}
