package workflow

import "strings"

const maxSlug = 64

// SlugFromName makes a slug of a workflow's name: lower-case ASCII letters and digits, everything
// else a single hyphen, at most 64 characters. It is "" when nothing is left.
func SlugFromName(name string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(name) {
		switch {
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
		if b.Len() == maxSlug {
			break
		}
	}
	return strings.Trim(b.String(), "-")
}

// ValidSlug reports whether s can name a workflow: 1 to 64 of a-z, 0-9 and hyphens, without one at
// either end. A UUID is refused, since ids and slugs share a place in URLs.
func ValidSlug(s string) bool {
	if s == "" || len(s) > maxSlug || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' {
			return false
		}
	}
	return len(s) != 36 || strings.Count(s, "-") != 4
}
