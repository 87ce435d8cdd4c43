package auth

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func TestTokenHasTheFormThatScannersKnow(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 1000 {
		text := newToken().Reveal()
		if len(text) != tokenChars || !strings.HasPrefix(text, "fdy_") {
			t.Fatalf("token %q has another form", text)
		}
		if _, ok := parse(text); !ok {
			t.Fatalf("token %q is refused", text)
		}
		seen[text] = true
	}
	if len(seen) != 1000 {
		t.Errorf("1000 tokens were %d different ones", len(seen))
	}
}

func TestChecksumIsWhatScannersCompute(t *testing.T) {
	t.Parallel()
	// Worked out with Python: zlib.crc32(b"0"*43) == 2018072207.
	const want = "2CZclj"
	if got := checksum(strings.Repeat("0", 43)); got != want {
		t.Errorf("checksum is %q, want %q", got, want)
	}
}

func TestParseRefusesWhatIsNoToken(t *testing.T) {
	t.Parallel()
	good := newToken().Reveal()
	swapped := []byte(good)
	swapped[10], swapped[11] = swapped[11], swapped[10]
	if swapped[10] == swapped[11] {
		swapped[10] ^= 1
	}
	for name, text := range map[string]string{
		"nothing":         "",
		"another prefix":  "ghp_" + good[4:],
		"cut":             good[:len(good)-1],
		"longer":          good + "0",
		"two mixed up":    string(swapped),
		"other checksum":  good[:len(good)-6] + "zzzzzz",
		"without prefix":  good[4:],
		"with whitespace": " " + good,
	} {
		if _, ok := parse(text); ok {
			t.Errorf("%s: %q is accepted", name, text)
		}
	}
}

func TestTokenNeverShowsItsPlaintext(t *testing.T) {
	t.Parallel()
	token := newToken()
	encoded, err := json.Marshal(map[string]any{"token": token, "pointer": &token})
	if err != nil {
		t.Fatal(err)
	}
	keyed, err := json.Marshal(map[Token]int{token: 1})
	if err != nil {
		t.Fatal(err)
	}
	shown := fmt.Sprint(token, &token, []Token{token}, struct{ T Token }{token}) +
		fmt.Sprintf("%v %+v %#v %s %q %x %d %T", token, token, token, token, token, token, token, token) + string(encoded) + string(keyed)
	if secret := token.Reveal()[len(prefix):]; strings.Contains(shown, secret[:8]) || strings.Contains(shown, fmt.Sprintf("%x", secret[:8])) {
		t.Errorf("the plaintext is in %q", shown)
	}
	if !strings.Contains(shown, "[redacted]") {
		t.Errorf("nothing says that it was redacted: %q", shown)
	}
}

func TestBase62(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		number []byte
		width  int
		want   string
	}{
		{[]byte{0}, 3, "000"},
		{[]byte{61}, 2, "0z"},
		{[]byte{62}, 2, "10"},
		{[]byte{0xff, 0xff, 0xff, 0xff}, 6, "4gfFC3"},
	} {
		if got := base62(c.number, c.width); got != c.want {
			t.Errorf("base62(%v) is %q, want %q", c.number, got, c.want)
		}
	}
}
