package config

import "fmt"

// Client is the configuration of commands that talk to a server.
type Client struct {
	// URL of the server. Empty: the one that `foundry dev` runs in this folder or above it.
	URL PublicURL `env:"FOUNDRY_URL"`
	// Token replaces the one that goes with the server.
	Token Token `env:"FOUNDRY_TOKEN"`
	// NoColor is not empty when nothing may be coloured (https://no-color.org).
	NoColor string `env:"NO_COLOR"`
}

// Token is an API token; it prints as [redacted]. string(t) is its text.
type Token string

// String hides the text.
func (Token) String() string { return "[redacted]" }

// GoString hides the text.
func (Token) GoString() string { return "[redacted]" }

// Format hides the text, whatever the verb.
func (Token) Format(s fmt.State, _ rune) { fmt.Fprint(s, "[redacted]") }

// MarshalText hides the text, in JSON too.
func (Token) MarshalText() ([]byte, error) { return []byte("[redacted]"), nil }
