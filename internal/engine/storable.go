package engine

import (
	"encoding/json"
	"fmt"
	"strings"
)

// storable makes text fit for Postgres's text and jsonb: NUL and invalid UTF-8 become U+FFFD, and what is
// beyond limit bytes is cut at a character.
func storable(s string, limit int) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "")
}

// storableValue is storable for all strings in a JSON value, keys included.
func storableValue(v any) any {
	const noLimit = 1 << 30
	switch v := v.(type) {
	case string:
		return storable(v, noLimit)
	case []any:
		list := make([]any, len(v))
		for i, item := range v {
			list[i] = storableValue(item)
		}
		return list
	case map[string]any:
		object := make(map[string]any, len(v))
		for key, item := range v {
			object[storable(key, noLimit)] = storableValue(item)
		}
		return object
	}
	return v
}

// encodeOutputs returns outputs as a JSON object, or an error that a person may read when it is
// larger than limit bytes.
func encodeOutputs(outputs map[string]any, limit int) (json.RawMessage, error) {
	raw, err := json.Marshal(storableValue(outputs))
	if err != nil {
		return nil, fmt.Errorf("The outputs cannot be written as JSON: %w.", err) //nolint:staticcheck // a sentence for a person
	}
	if len(raw) > limit {
		return nil, fmt.Errorf("The outputs have %d bytes; the limit is %d.", len(raw), limit) //nolint:staticcheck // a sentence for a person
	}
	return raw, nil
}
