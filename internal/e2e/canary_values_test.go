package e2e

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// canary is what a run must not tell.
type canary struct {
	values  map[string]string // secrets, by key
	runtime string            // announced by ::add-mask::
	marker  string            // no secret: what every search must find
}

func newCanary() canary {
	random := func() string { return "k#" + rand.Text()[:16] }
	return canary{
		values: map[string]string{
			"SHORT": random()[:8],
			"MULTI": "-----BEGIN " + random() + "\n" + random() + "\r\n" + random() + "\n" + random() + "-----",
			"ODD":   `a"b\c/d e+f%g&h<i>'j=?` + random() + "`$!é",
			"UTF":   "\x01\x1b[31m\u00a0☃𝕏\u2028\ufeff\x7f" + random() + "\t\ufffd",
			"LONG":  longText(1500),
			"SPLIT": random(),
			"WORD":  "W" + rand.Text(), // may be the name of an output
		},
		runtime: "runtime/" + random(), marker: "MARKER" + rand.Text(),
	}
}

func longText(size int) string {
	var b strings.Builder
	for b.Len() < size {
		b.WriteString(rand.Text())
	}
	return b.String()[:size]
}

// forms are those of design.md, section 9, of one value: by name, made without package redact.
func forms(value string) map[string]string {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err) // a string
	}
	lower := hex.EncodeToString([]byte(value))
	f := map[string]string{
		"whole": value, "base64url": base64.RawURLEncoding.EncodeToString([]byte(value)),
		"hex": lower, "HEX": strings.ToUpper(lower),
		"query": url.QueryEscape(value), "path": url.PathEscape(value), "json": string(text[1 : len(text)-1]),
	}
	for shift := range 3 {
		f["base64+"+strconv.Itoa(shift)] = base64At(value, shift)
	}
	if strings.Contains(value, "\n") {
		for n, line := range strings.Split(value, "\n") {
			if line = strings.TrimSuffix(line, "\r"); len(line) >= 8 {
				f["line "+strconv.Itoa(n)] = line
			}
		}
	}
	if len(value) > 1024 { // any half of a long value tells too much
		f["first 512"], f["last 512"] = value[:512], value[len(value)-512:]
	}
	return f
}

// base64At is what of a value's base64 does not depend on the text around it, when shift bytes (modulo 3) are before it.
func base64At(value string, shift int) string {
	encoded := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + value))
	return encoded[(shift*8+5)/6 : (shift+len(value))*8/6]
}

// needles are all forms of all values, by what they are.
func (c canary) needles() map[string]string {
	all := map[string]string{}
	add := func(key, value string) {
		for name, form := range forms(value) {
			all[key+" "+name] = form
		}
	}
	for key, value := range c.values {
		add(key, value)
	}
	add("runtime", c.runtime)
	return all
}

// files are what the workflow prints, turned.
func (c canary) files() map[string][]byte {
	var printed, outputs, late strings.Builder
	keys := make([]string, 0, len(c.values))
	for key, value := range c.values {
		keys = append(keys, key)
		for name, form := range forms(value) {
			fmt.Fprintf(&printed, "<%s>\n", form)
			if shift, ok := strings.CutPrefix(name, "base64+"); ok { // in the middle of a text
				n, _ := strconv.Atoi(shift)
				fmt.Fprintf(&printed, "%s\n", base64.StdEncoding.EncodeToString([]byte(strings.Repeat("u", n)+value+" and more")))
			}
			fmt.Fprintf(&outputs, "%s_%s<<CANARY-END\n%s\nCANARY-END\n", key, strings.Map(letters, name), form)
		}
	}
	for _, form := range forms(c.runtime) {
		fmt.Fprintf(&late, "[%s]\n", form)
	}
	slices.Sort(keys)
	turned := map[string]string{
		"print.bin": printed.String(), "outputs.bin": outputs.String(), "late.bin": late.String(),
		"mask.bin": "::add-mask::" + c.runtime + "\n", "env.bin": strings.Join(keys, "\n") + "\n",
	}
	files := map[string][]byte{"lib.sh": []byte(canaryLibrary)}
	for name, text := range turned {
		content := []byte(text)
		for n := range content {
			content[n] ^= 0x80
		}
		files[name] = content
	}
	return files
}

func letters(r rune) rune {
	if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
		return r
	}
	return '_'
}
