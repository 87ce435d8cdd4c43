package secret

import (
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"foundry/internal/errs"
	"foundry/internal/redact"
)

// Limits of protocols.md, sections 4 and 11.
const (
	MaxKey       = 128       // characters
	MaxValue     = 64 << 10  // bytes
	MaxTotal     = 256 << 10 // bytes of all values of a workflow
	MaxPerOwner  = 100       // secrets of a workflow
	MinMaskedLen = 6         // bytes; a shorter value would mask ordinary text
)

// Info is a secret without its value.
type Info struct {
	ID         uuid.UUID
	Key        string
	Version    int
	Mask       bool
	UpdatedBy  string
	UpdatedAt  time.Time
	LastUsedAt *time.Time
}

// Value is one version of a secret, decrypted. It never prints its text.
type Value struct {
	ID       uuid.UUID // of the secret
	Key      string
	Version  int
	Mask     bool
	MaskOnly bool // not given to the execution: of before, its sandbox may hold it, or of later
	Text     redact.Value
}

// CheckKey refuses what cannot, or must not, name an environment variable of a command.
func CheckKey(key string) error {
	if !regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`).MatchString(key) {
		return errs.E(errs.Validation, "A key is made of letters, digits and _, and does not begin with a digit.").With("/key", "Is not a name.")
	}
	if len(key) > MaxKey {
		return errs.E(errs.Validation, "A key has at most %d characters; this one has %d.", MaxKey, len(key)).With("/key", "Is too long.")
	}
	upper := strings.ToUpper(key)
	for _, reserved := range []string{"FOUNDRY_", "LD_"} {
		if strings.HasPrefix(upper, reserved) {
			return errs.E(errs.Validation, "Keys that begin with %s are reserved.", reserved).With("/key", "Is reserved.")
		}
	}
	if strings.HasPrefix(upper, "PATH") {
		return errs.E(errs.Validation, "Keys that begin with PATH are reserved.").With("/key", "Is reserved.")
	}
	return nil
}

// CheckValue refuses values that no variable can hold, and short ones that are to be masked.
func CheckValue(value redact.Value, mask bool) error {
	text := string(value)
	switch {
	case text == "":
		return errs.E(errs.Validation, "A value is not empty; delete the secret instead.").With("/value", "Is empty.")
	case len(text) > MaxValue:
		return errs.E(errs.Validation, "A value has at most %d bytes; this one has %d.", MaxValue, len(text)).With("/value", "Is too long.")
	case strings.ContainsRune(text, 0) || !utf8.ValidString(text):
		return errs.E(errs.Validation, "A value is UTF-8 text without NUL.").With("/value", "Is not text.")
	case mask && len(text) < MinMaskedLen:
		return errs.E(errs.Validation, "A value of less than %d bytes would mask ordinary text; set mask to false to store it unmasked.", MinMaskedLen).
			With("/value", "Is too short to be masked.")
	}
	return nil
}
