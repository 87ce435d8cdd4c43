package redact

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	// maxPattern is the longest pattern in bytes; it bounds what a Writer
	// holds back. A longer form is matched as pieces of pieceSize.
	maxPattern = 1 << 10
	pieceSize  = 512

	// minLine is the length in characters from which a single line of a
	// multi-line value is masked by itself.
	minLine = 8

	// minEncoded is the shortest encoded form in bytes. Values can be shorter,
	// since a command may announce anything, but two letters of base64 would
	// mask ordinary text without hiding anything.
	minEncoded = 6
)

// appendForms appends to patterns every form in which value is masked, cut into
// pieces where it is too long.
func appendForms(patterns [][]byte, value string) [][]byte {
	if value == "" {
		return patterns
	}
	patterns = appendPieces(patterns, value)
	patterns = appendEncoded(patterns, value)
	// Shells drop the line breaks at the end of what they read.
	if bare := strings.TrimRight(value, "\r\n"); bare != value && strings.TrimSpace(bare) != "" {
		patterns = appendPieces(patterns, bare)
		patterns = appendEncoded(patterns, bare)
	}
	if !strings.Contains(value, "\n") {
		return patterns
	}
	for line := range strings.Lines(value) {
		line = strings.TrimRight(line, "\r\n")
		// A line of blanks hides nothing and would mask every indentation.
		if utf8.RuneCountInString(line) >= minLine && strings.TrimSpace(line) != "" {
			patterns = appendPieces(patterns, line)
		}
	}
	return patterns
}

func appendEncoded(patterns [][]byte, value string) [][]byte {
	forms := hexForms(value)
	forms = append(forms, base64Forms(value)...)
	forms = append(forms, wrappedForms(value)...)
	forms = append(forms, urlForms(value)...)
	forms = append(forms, jsonForms(value)...)
	for _, form := range forms {
		if len(form) >= minEncoded {
			patterns = appendPieces(patterns, form)
		}
	}
	return patterns
}

// appendPieces appends form, or the consecutive pieces of a long one. The last
// piece is the last pieceSize bytes, overlapping the one before: a remainder of
// one or two bytes would match everywhere.
func appendPieces(patterns [][]byte, form string) [][]byte {
	if len(form) <= maxPattern {
		return append(patterns, []byte(form))
	}
	for len(form) > pieceSize {
		patterns = append(patterns, []byte(form[:pieceSize]))
		form = form[min(pieceSize, len(form)-pieceSize):]
	}
	return append(patterns, []byte(form))
}

func hexForms(value string) []string {
	lower := hex.EncodeToString([]byte(value))
	return []string{lower, strings.ToUpper(lower)}
}

// base64Forms returns value as it appears in the base64 of any text that
// contains it, which depends on where it lies in the text modulo three.
func base64Forms(value string) []string {
	var forms []string
	for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for offset := range 3 {
			forms = append(forms, alignedForms(encoding, value, offset)...)
		}
	}
	return forms
}

// alignedForms returns the characters that value alone decides when offset bytes
// precede it, and, if the last of its bits share a character with
// what follows, also the ending for nothing following, without and with
// padding.
func alignedForms(encoding *base64.Encoding, value string, offset int) []string {
	text := encoding.EncodeToString([]byte(strings.Repeat("\x00", offset) + value))
	from := (offset*8 + 5) / 6
	to := (offset + len(value)) * 8 / 6
	if to <= from {
		return nil
	}
	if to == len(text) {
		return []string{text[from:]}
	}
	padding := strings.Repeat("=", (4-len(text)%4)%4)
	return []string{text[from:to], text[from:], text[from:] + padding}
}

// wrappedForms returns the lines of value's base64 as the base64 and openssl
// commands break it, at 76 and 64 characters.
func wrappedForms(value string) []string {
	var forms []string
	for _, width := range []int{76, 64} {
		size := width / 4 * 3
		if len(value) <= size {
			continue
		}
		for rest := value; rest != ""; {
			n := min(size, len(rest))
			for _, form := range alignedForms(base64.RawStdEncoding, rest[:n], 0) {
				if len(form) >= minLine {
					forms = append(forms, form)
				}
			}
			rest = rest[n:]
		}
	}
	return forms
}

// urlForms returns the escapes of value in a URL. Encoders differ in what they
// leave as it is, beside letters, digits and -._~.
func urlForms(value string) []string {
	forms := []string{url.QueryEscape(value)}
	for _, kept := range []string{
		"",           // RFC 3986; Python's quote with safe=''
		"/",          // Python's quote
		"!*'()",      // encodeURIComponent
		"$&+,;=",     // user and password of a URL in Go
		"$&+,;=:@",   // a path's segment
		"$&+,;=:@/!", // a path
	} {
		forms = append(forms, percentEncode(value, kept))
	}
	return forms
}

func percentEncode(value, kept string) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(value) {
		c := value[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9',
			strings.IndexByte("-._~", c) >= 0, strings.IndexByte(kept, c) >= 0:
			b.WriteByte(c)
		default:
			b.WriteByte('%')
			b.WriteByte(digits[c>>4])
			b.WriteByte(digits[c&15])
		}
	}
	return b.String()
}

// jsonForms returns value inside a JSON string: as it is for most encoders, with
// the characters of HTML escaped (Go), and in ASCII (Python).
func jsonForms(value string) []string {
	plain := jsonEscape(value, false)
	return []string{plain, jsonEscape(value, true), asciiEscape(plain)}
}

func jsonEscape(value string, html bool) string {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(html)
	// A string always encodes, and a Buffer takes every write.
	_ = encoder.Encode(value)
	return strings.TrimSuffix(strings.TrimPrefix(b.String(), `"`), "\"\n")
}

func asciiEscape(text string) string {
	var b strings.Builder
	for _, r := range text {
		if r < utf8.RuneSelf {
			b.WriteRune(r)
			continue
		}
		for _, unit := range utf16.AppendRune(nil, r) {
			fmt.Fprintf(&b, `\u%04x`, unit)
		}
	}
	return b.String()
}
