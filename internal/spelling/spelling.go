// Package spelling finds the word that a person probably meant.
package spelling

import "strings"

// maxWord bounds the cost of a comparison; longer words have no neighbours.
const maxWord = 64

// Nearest returns the candidate that is closest to word, or "" when none is close: at most
// one edit (insert, delete, change or swap of neighbours, ignoring case) for each three
// letters, and at least one. Of equally close candidates the first wins.
func Nearest(word string, candidates []string) string {
	if len(word) > maxWord {
		return ""
	}
	best, limit := "", max(1, len(word)/3)
	lower := strings.ToLower(word)
	for _, c := range candidates {
		if len(c) > maxWord {
			continue
		}
		if d := distance(lower, strings.ToLower(c)); d <= limit {
			best, limit = c, d-1
		}
	}
	return best
}

// distance is the optimal string alignment distance in bytes.
func distance(a, b string) int {
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(row[j]+1, last[j+1]+1, last[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
