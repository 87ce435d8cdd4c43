package shim

import (
	"bytes"
	"fmt"
)

// ParseOutputs parses the content of a FOUNDRY_OUTPUT file:
//
//	name=value
//	name<<DELIM
//	any lines
//	DELIM
//
// Names are letters, digits, _ and -, and do not begin with a digit or -. Of two values of one name the last
// one holds. Empty lines between entries are skipped. Values are bytes: they need not be
// valid UTF-8. The error is a sentence with the line's number.
func ParseOutputs(content []byte) (map[string]string, error) {
	outputs := make(map[string]string)
	for number := 1; len(content) > 0; number++ {
		line, rest, _ := bytes.Cut(content, []byte{'\n'})
		content = rest
		if len(line) == 0 {
			continue
		}
		at := bytes.IndexAny(line, "=<")
		if at < 0 || !validOutputName(line[:at]) {
			return nil, fmt.Errorf("Line %d of the outputs is neither name=value nor name<<DELIMITER.", number) //nolint:staticcheck // shown to people
		}
		name := string(line[:at])
		if line[at] == '=' {
			outputs[name] = string(line[at+1:])
			continue
		}
		delimiter, ok := bytes.CutPrefix(line[at:], []byte("<<"))
		if !ok || len(delimiter) == 0 {
			return nil, fmt.Errorf("Line %d of the outputs needs a delimiter after %s<<.", number, name) //nolint:staticcheck // shown to people
		}
		value, rest, lines, ok := cutBlock(content, delimiter)
		if !ok {
			// The delimiter may be a secret. Quoted, it would not be recognized as one.
			return nil, fmt.Errorf("The output %s on line %d is not closed by its delimiter.", name, number) //nolint:staticcheck // shown to people
		}
		outputs[name] = string(value)
		content = rest
		number += lines
	}
	return outputs, nil
}

// cutBlock splits content at the first line that is the delimiter. The line feed before it is not
// part of the value. lines counts those taken, the delimiter's included.
func cutBlock(content, delimiter []byte) (value, rest []byte, lines int, ok bool) {
	for start := 0; start < len(content); {
		line, after := content[start:], len(content)
		if end := bytes.IndexByte(line, '\n'); end >= 0 {
			line, after = line[:end], start+end+1
		}
		lines++
		if bytes.Equal(line, delimiter) {
			return content[:max(start-1, 0)], content[after:], lines, true
		}
		start = after
	}
	return nil, nil, lines, false
}

func validOutputName(name []byte) bool {
	for i, c := range name {
		letter := c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || c != '-' && (c < '0' || c > '9')) {
			return false
		}
	}
	return len(name) > 0
}
