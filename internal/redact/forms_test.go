package redact

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
)

// secrets are values that each encoding treats differently.
func secrets() []string {
	return []string{
		"hunter2!",
		"p@ss w/rd?&=+%",
		`quote " back \ <tag> & tab` + "\t",
		"grüße 日本 🔑",
		"\xff\xfe>?>?\x00raw",
		"-----BEGIN KEY-----\nMIIabc/def+ghi\n-----END KEY-----\n",
		randomText(1, 100),
		randomText(2, 700),
		randomText(3, 5000),
	}
}

func wantString(t *testing.T, p *Patterns, in, want string) {
	t.Helper()
	got, changed := String(p, in)
	if got != want || changed != (in != want) {
		t.Errorf("String(%.200q)\ngot  %.200q (changed %t)\nwant %.200q", in, got, changed, want)
	}
}

func TestEncodedValuesAreMasked(t *testing.T) {
	t.Parallel()
	for _, secret := range secrets() {
		p := New([]Value{Value(secret)})
		jsonText, err := json.Marshal(secret)
		if err != nil {
			t.Fatal(err)
		}
		for name, form := range map[string]string{
			"plain":     secret,
			"hex":       hex.EncodeToString([]byte(secret)),
			"HEX":       strings.ToUpper(hex.EncodeToString([]byte(secret))),
			"query":     url.QueryEscape(secret),
			"path":      url.PathEscape(secret),
			"userinfo":  strings.TrimPrefix(url.UserPassword("", secret).String(), ":"),
			"json":      strings.Trim(string(jsonText), `"`),
			"base64":    base64.StdEncoding.EncodeToString([]byte(secret)),
			"base64url": base64.URLEncoding.EncodeToString([]byte(secret)),
			"base64raw": base64.RawStdEncoding.EncodeToString([]byte(secret)),
		} {
			if name == "json" && strings.Contains(form, `\"`) {
				form = string(jsonText[1 : len(jsonText)-1])
			}
			t.Run(fmt.Sprintf("%s of %.10q", name, secret), func(t *testing.T) {
				t.Parallel()
				wantString(t, p, "x="+form+" .", "x=*** .")
			})
		}
	}
}

// What other encoders write, as text: Go has no encoder for these.
func TestFormsOfOtherEncoders(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ secret, form string }{
		"encodeURIComponent":             {"a b/(c)!*'&", "a%20b%2F(c)!*'%26"},
		"quote of Python":                {"a b/(c)!", "a%20b/%28c%29%21"},
		"strict percent encoding":        {"a b/(c)!", "a%20b%2F%28c%29%21"},
		"json.dumps of Python":           {"grüße 🔑\n", `gr\u00fc\u00dfe \ud83d\udd11\n`},
		"JSON.stringify":                 {"<grüße> & \"\n", `<grüße> & \"\n`},
		"without the final line break":   {"abcdef\n", "abcdef"},
		"hex without final line break":   {"abcdef\r\n", "616263646566"},
		"a line of 8":                    {"one\n12345678\ntwo", "12345678"},
		"a line of 8 with CRLF":          {"one\r\n12345678\r\ntwo", "12345678"},
		"an indented line":               {"{\n  \"key\": 1\n}", `  "key": 1`},
		"a line of 8 runes":              {"one\nüüüüüüüü\ntwo", "üüüüüüüü"},
		"adjacent lines, joined":         {"12345678\nabcdefgh", "abcdefgh12345678"},
		"a value of one byte":            {"x", "x"},
		"a value shorter than encodings": {"ab", "ab"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantString(t, New([]Value{Value(tt.secret)}), "= "+tt.form+" =", "= *** =")
		})
	}
}

func TestWhatIsNoFormStays(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ secret, text string }{
		"a line of 7":                 {"one\n1234567\ntwo", "1234567"},
		"a line of blanks":            {"one\n          \ntwo", "            "},
		"base64 of a very short one":  {"ab", "YWI= 6162 WI"},
		"the empty value":             {"", "anything"},
		"a part":                      {"hunter2!", "hunter2"},
		"a part at the end":           {"hunter2!", "unter2!"},
		"another case":                {"hunter2!", "Hunter2!"},
		"the end of a long value":     {randomText(4, 1025), randomText(4, 1025)[1024:]},
		"a long value's first 500":    {randomText(4, 1025), randomText(4, 1025)[:500]},
		"only line breaks":            {"\n", "text"},
		"a mask line in whole string": {"hunter2!", "::add-mask::text\ntext"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantString(t, New([]Value{Value(tt.secret)}), "= "+tt.text+" =", "= "+tt.text+" =")
		})
	}
}

// In base64 a value's first and last bits may share a character with what is around it;
// everything else must go. (The bytes behind are all ones, since zero bits look like
// the end of the text, and are masked.)
func TestBase64InsideOtherText(t *testing.T) {
	t.Parallel()
	for _, secret := range secrets() {
		p := New([]Value{Value(secret)})
		for name, encoding := range map[string]*base64.Encoding{
			"std": base64.StdEncoding, "url": base64.URLEncoding,
			"rawstd": base64.RawStdEncoding, "rawurl": base64.RawURLEncoding,
		} {
			for before := range 6 {
				for after := range 4 {
					text := encoding.EncodeToString([]byte("<<<<<<"[:before] + secret + "\xff\xff\xff\xff"[:after]))
					left := (before*8 + 5) / 6
					right := (before + len(secret)) * 8 / 6
					if after == 0 {
						right = len(text)
					}
					t.Run(fmt.Sprintf("%s %.10q %d %d", name, secret, before, after), func(t *testing.T) {
						t.Parallel()
						wantString(t, p, "= "+text+" =", "= "+text[:left]+"***"+text[right:]+" =")
					})
				}
			}
		}
	}
}

func TestWrappedBase64(t *testing.T) {
	t.Parallel()
	for _, width := range []int{64, 76} {
		for _, size := range []int{63, 100, 114, 120, 3000} {
			t.Run(fmt.Sprintf("%d at %d", size, width), func(t *testing.T) {
				t.Parallel()
				secret := randomText(uint64(size), size)
				text := base64.StdEncoding.EncodeToString([]byte(secret))
				var in, want strings.Builder
				for len(text) > width {
					in.WriteString(text[:width] + "\n")
					want.WriteString("***\n")
					text = text[width:]
				}
				in.WriteString(text)
				want.WriteString("***")
				if len(text) < 8 {
					t.Fatalf("the last line %q is too short for this test", text)
				}
				wantString(t, New([]Value{Value(secret)}), in.String(), want.String())
			})
		}
	}
}

func TestPiecesCoverLongForms(t *testing.T) {
	t.Parallel()
	for size := maxPattern - 2; size < maxPattern+3*pieceSize; size++ {
		form := randomText(9, size)
		covered := 0
		for _, piece := range appendPieces(nil, form) {
			at := strings.Index(form, string(piece))
			if len(piece) > maxPattern || size > maxPattern && len(piece) != pieceSize || at < 0 || at > covered {
				t.Fatalf("size %d: piece of %d bytes at %d, covered %d", size, len(piece), at, covered)
			}
			covered = at + len(piece)
		}
		if covered != size {
			t.Fatalf("size %d: covered %d", size, covered)
		}
	}
}
