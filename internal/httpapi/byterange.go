package httpapi

import (
	"fmt"
	"strconv"
	"strings"
)

// byteRange is bytes from (inclusive) to to (exclusive).
type byteRange struct{ from, to int64 }

// within returns which part of a piece, size bytes long and beginning at start, lies in the range. It is empty
// when none does, and counts from the start of the piece.
func (r byteRange) within(start, size int64) byteRange {
	from := min(max(r.from-start, 0), size)
	to := min(max(r.to-start, 0), size)
	return byteRange{from, max(from, to)}
}

// rangeError says that a range begins behind the end.
type rangeError struct{ size int64 }

func (e *rangeError) Error() string {
	return fmt.Sprintf("The range begins behind the end of the text, which has %d bytes.", e.size)
}

// parseRange reads a Range header (RFC 9110, 14.2) for a text of size bytes. What is not one range of bytes is
// ignored, as the RFC has it: nil.
func parseRange(header string, size int64) (*byteRange, error) {
	unit, set, ok := strings.Cut(header, "=")
	if !ok || !strings.EqualFold(strings.TrimSpace(unit), "bytes") || strings.Contains(set, ",") {
		return nil, nil //nolint:nilnil // no range is not an error
	}
	first, last, ok := strings.Cut(strings.TrimSpace(set), "-")
	from, fromOK := position(first)
	to, toOK := position(last)
	switch {
	case !ok || !fromOK && first != "" || !toOK && last != "" || first == "" && last == "" || fromOK && toOK && to < from:
		return nil, nil //nolint:nilnil // no range is not an error
	case first == "": // the last bytes
		from, to = max(0, size-to), size
	case last == "" || to >= size:
		to = size
	default:
		to++
	}
	if from >= to {
		return nil, &rangeError{size}
	}
	return &byteRange{from, to}, nil
}

func position(digits string) (int64, bool) {
	n, err := strconv.ParseUint(digits, 10, 63)
	return int64(n), err == nil && digits[0] != '+'
}
