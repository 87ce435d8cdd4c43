package workflow

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// shaped reports a value of another shape. It is false, silently, where a fault of the
// value was reported already.
func (c *compiler) shaped(v *value, want shape) bool {
	if v.shape == want {
		return true
	}
	if v.shape == shapeInvalid {
		return false
	}
	hint := ""
	if want == shapeString && v.shape != shapeMap && v.shape != shapeList && v.shape != shapeNull {
		hint = "Put it in quotes."
	}
	c.fault(v.mark, v.path, "bad_type", fmt.Sprintf("Expected %s, found %s.", want, v.shape), hint)
	return false
}

// plain reads a string that is not empty and has no expression.
func (c *compiler) plain(v *value) (string, bool) {
	if !c.shaped(v, shapeString) {
		return "", false
	}
	if strings.Contains(v.text, "${{") {
		c.fault(c.at(v, strings.Index(v.text, "${{"), 3), v.path, "expression_elsewhere", "Expressions are not evaluated here.", "They can stand in env, if, set, approval, wait and outputs.")
		return "", false
	}
	return v.text, true
}

// name reads a string of one line, 1 to 128 characters.
func (c *compiler) name(v *value) string {
	text, ok := c.plain(v)
	text = strings.TrimSpace(text)
	switch n := utf8.RuneCountInString(text); {
	case !ok:
	case n == 0:
		c.fault(v.mark, v.path, "bad_value", "The name is empty.", "")
	case n > MaxKey:
		c.fault(v.mark, v.path, "too_large", fmt.Sprintf("A name has at most %d characters; this one has %d.", MaxKey, n), "")
	case strings.ContainsFunc(text, unicode.IsControl):
		c.fault(v.mark, v.path, "bad_value", "A name is one line without control characters.", "")
	}
	return text
}

// prose reads a description.
func (c *compiler) prose(v *value) string {
	if !c.shaped(v, shapeString) {
		return ""
	}
	if len(v.text) > maxDescription {
		c.fault(v.mark, v.path, "too_large", fmt.Sprintf("A description has at most %d KiB; this one has %d bytes.", maxDescription>>10, len(v.text)), "")
	}
	return v.text
}

func (c *compiler) flag(v *value) bool {
	return c.shaped(v, shapeBool) && v.yes
}

// integer reads a whole number within limits, or returns the fallback after a fault.
func (c *compiler) integer(v *value, low, high, fallback int) int {
	if !c.shaped(v, shapeNumber) {
		return fallback
	}
	if v.number != math.Trunc(v.number) {
		c.fault(v.mark, v.path, "bad_type", fmt.Sprintf("Expected a whole number, found %s.", v.text), "")
		return fallback
	}
	if v.number < float64(low) || v.number > float64(high) {
		c.fault(v.mark, v.path, "out_of_range", fmt.Sprintf("This must be from %d to %d, not %s.", low, high, v.text), "")
		return fallback
	}
	return int(v.number)
}

// word reads one of a few words.
func (c *compiler) word(v *value, words ...string) string {
	if !c.shaped(v, shapeString) {
		return ""
	}
	if !slices.Contains(words, v.text) {
		c.fault(v.mark, v.path, "bad_value", fmt.Sprintf("%q is not one of the values that this key has.", v.text), fmt.Sprintf("Write one of: %s.", strings.Join(words, ", ")))
		return ""
	}
	return v.text
}

// strings reads a list of plain strings.
func (c *compiler) strings(v *value) []*value {
	if !c.shaped(v, shapeList) {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(v.items), func(item *value) bool {
		_, ok := c.plain(item)
		return !ok
	})
}

const durationHint = "Write whole numbers with units, as in 90s, 5m, 1h30m or 2d."

// duration reads a positive duration, or returns the fallback after a fault.
func (c *compiler) duration(v *value, fallback time.Duration) time.Duration {
	if v.shape == shapeNumber {
		c.fault(v.mark, v.path, "bad_duration", fmt.Sprintf("The duration %s has no unit.", v.text), durationHint)
		return fallback
	}
	text, ok := c.plain(v)
	if !ok {
		return fallback
	}
	d, ok := ParseDuration(text)
	switch {
	case !ok:
		c.fault(v.mark, v.path, "bad_duration", fmt.Sprintf("%q is not a duration.", text), durationHint)
	case d <= 0:
		c.fault(v.mark, v.path, "bad_duration", "The duration is zero.", "Leave the key out for the default.")
	case d > MaxDuration:
		c.fault(v.mark, v.path, "bad_duration", fmt.Sprintf("A duration is at most %dh; this is %s.", MaxDuration/time.Hour, text), "")
	default:
		return d
	}
	return fallback
}

// ParseDuration reads days, hours, minutes, seconds and milliseconds in this order, each a whole
// number and each at most once, as in 90s, 1h30m or 2d. ok is false for anything else.
func ParseDuration(text string) (d time.Duration, ok bool) {
	var total time.Duration
	rest := text
	for _, unit := range [...]struct {
		name string
		size time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}, {"ms", time.Millisecond}} {
		digits := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
		if digits < 1 || digits > 9 {
			break
		}
		after, ok := strings.CutPrefix(rest[digits:], unit.name)
		if !ok || unit.name == "m" && strings.HasPrefix(after, "s") {
			continue
		}
		n, err := strconv.Atoi(rest[:digits])
		if err != nil || time.Duration(n) > 2*MaxDuration/unit.size {
			return 2 * MaxDuration, err == nil
		}
		total += time.Duration(n) * unit.size
		rest = after
	}
	return total, text != "" && rest == ""
}

// size reads a number of bytes with a binary unit, within limits.
func (c *compiler) size(v *value, low, high int64) int64 {
	if v.shape == shapeNumber {
		c.fault(v.mark, v.path, "bad_size", fmt.Sprintf("The size %s has no unit.", v.text), sizeHint)
		return 0
	}
	text, ok := c.plain(v)
	if !ok {
		return 0
	}
	n, ok := parseSize(text)
	switch {
	case !ok:
		c.fault(v.mark, v.path, "bad_size", fmt.Sprintf("%q is not a size.", text), sizeHint)
	case n < low || n > high:
		c.fault(v.mark, v.path, "out_of_range", fmt.Sprintf("This must be from %s to %s, not %s.", printSize(low), printSize(high), text), "")
	default:
		return n
	}
	return 0
}

const sizeHint = "Write a whole number with a unit, as in 512MiB or 4GiB; the units are KiB, MiB, GiB and TiB."

// parseSize reads 4GiB or 4Gi. Sizes that no machine has are cut off at 2^62.
func parseSize(text string) (int64, bool) {
	units := "KMGT"
	short, ok := strings.CutSuffix(strings.TrimSuffix(text, "B"), "i")
	if !ok || short == "" {
		return 0, false
	}
	unit := strings.IndexByte(units, short[len(short)-1])
	n, err := strconv.ParseUint(short[:len(short)-1], 10, 63)
	if unit < 0 || err != nil {
		return 0, false
	}
	shift := 10 * (unit + 1)
	if n > 1<<62>>shift {
		return 1 << 62, true
	}
	return int64(n) << shift, true
}

// printSize writes a size with the largest unit that divides it.
func printSize(n int64) string {
	for i, unit := range []string{"TiB", "GiB", "MiB", "KiB"} {
		if size := int64(1) << (40 - 10*i); n >= size && n%size == 0 {
			return strconv.FormatInt(n/size, 10) + unit
		}
	}
	return strconv.FormatInt(n, 10) + " bytes"
}

// keyPattern is what names of nodes, inputs and outputs look like; variables have no dash.
const keyPattern = `[A-Za-z_][A-Za-z0-9_-]*`

var (
	validKey      = regexp.MustCompile(`^` + keyPattern + `$`)
	leadingKey    = regexp.MustCompile(`^` + keyPattern)
	validVariable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

// key checks the name that an entry gives to something.
func (c *compiler) key(e entry) bool {
	switch {
	case !validKey.MatchString(e.key):
		c.fault(e.mark, e.path, "bad_key", fmt.Sprintf("%q cannot be a name.", e.key), "A name begins with a letter or _ and goes on with letters, digits, _ and -.")
	case len(e.key) > MaxKey:
		c.fault(e.mark, e.path, "too_large", fmt.Sprintf("A name has at most %d characters; this one has %d.", MaxKey, len(e.key)), "")
	default:
		return true
	}
	return false
}
