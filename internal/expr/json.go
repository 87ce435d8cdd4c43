package expr

import (
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"strings"
)

// errNotJSON is a number that JSON cannot say; errTooLarge is a text beyond MaxSize. Only
// toJSON sees them.
var (
	errNotJSON  = errors.New("not a number of JSON")
	errTooLarge = errors.New("too large")
)

// jsonWriter prints with two spaces of indentation, as GitHub does. It stops at MaxSize,
// which encoding/json cannot: indentation alone makes a deep value large.
type jsonWriter struct {
	out strings.Builder
}

func (w *jsonWriter) value(v Value, indent string) error {
	if w.out.Len() > MaxSize {
		return errTooLarge
	}
	switch v := v.(type) {
	case []any:
		return w.list('[', ']', len(v), indent, func(i int, inner string) error {
			return w.value(v[i], inner)
		})
	case map[string]any:
		keys := sortedKeys(v)
		return w.list('{', '}', len(v), indent, func(i int, inner string) error {
			if err := w.text(keys[i]); err != nil {
				return err
			}
			w.out.WriteString(": ")
			return w.value(v[keys[i]], inner)
		})
	case string:
		return w.text(v)
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return errNotJSON
		}
		w.out.WriteString(formatNumber(v))
	case bool:
		w.out.WriteString(strconv.FormatBool(v))
	default:
		w.out.WriteString("null")
	}
	return nil
}

func (w *jsonWriter) list(open, end byte, n int, indent string, item func(i int, inner string) error) error {
	w.out.WriteByte(open)
	inner := indent + "  "
	for i := range n {
		if i > 0 {
			w.out.WriteByte(',')
		}
		w.out.WriteByte('\n')
		w.out.WriteString(inner)
		if err := item(i, inner); err != nil {
			return err
		}
	}
	if n > 0 {
		w.out.WriteByte('\n')
		w.out.WriteString(indent)
	}
	w.out.WriteByte(end)
	return nil
}

// text writes a string without the escapes for HTML.
func (w *jsonWriter) text(s string) error {
	var line strings.Builder
	enc := json.NewEncoder(&line)
	enc.SetEscapeHTML(false)
	err := enc.Encode(s)
	w.out.WriteString(strings.TrimSuffix(line.String(), "\n"))
	return err
}
