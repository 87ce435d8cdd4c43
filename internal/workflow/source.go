package workflow

import (
	"strings"
	"unicode/utf8"
)

// span is a stretch of the text; lines and columns count from 1, columns in characters.
type span struct {
	line, column       int
	endLine, endColumn int
}

// source is the text, by lines.
type source struct {
	lines []string // without line ends
}

func newSource(text string) *source {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimSuffix(line, "\r")
	}
	if last := len(lines) - 1; last > 0 && lines[last] == "" {
		lines = lines[:last]
	}
	return &source{lines: lines}
}

// width is the number of characters of a line that exists.
func (s *source) width(line int) int { return utf8.RuneCountInString(s.lines[line-1]) }

// within moves a position into the text. Positions come from the YAML library, which is
// not always exact at line ends.
func (s *source) within(line, column int) (int, int) {
	line = min(max(line, 1), len(s.lines))
	return line, min(max(column, 1), s.width(line)+1)
}

// span covers n characters from a position, at most to the end of the line.
func (s *source) span(line, column, n int) span {
	line, column = s.within(line, column)
	_, end := s.within(line, column+max(n, 1))
	return span{line: line, column: column, endLine: line, endColumn: end}
}

// rest covers everything from a position to the end of its line, without trailing blanks.
func (s *source) rest(line, column int) span {
	line, column = s.within(line, column)
	text := strings.TrimRight(s.lines[line-1], " \t")
	return s.span(line, column, utf8.RuneCountInString(text)-column+1)
}

// at returns the text from a position to the end of its line.
func (s *source) at(line, column int) string {
	line, column = s.within(line, column)
	text := s.lines[line-1]
	for ; column > 1; column-- {
		_, size := utf8.DecodeRuneInString(text)
		text = text[size:]
	}
	return text
}

// find looks for the nth occurrence, from 0, of a word that has no line end, from a
// position on.
func (s *source) find(line, column int, word string, nth int) (int, int, bool) {
	line, column = s.within(line, column)
	for text := s.at(line, column); ; {
		before, after, ok := strings.Cut(text, word)
		switch {
		case ok && nth == 0:
			return line, column + utf8.RuneCountInString(before), true
		case ok:
			nth--
			column += utf8.RuneCountInString(before) + utf8.RuneCountInString(word)
			text = after
		case line == len(s.lines):
			return 0, 0, false
		default:
			line, column = line+1, 1
			text = s.lines[line-1]
		}
	}
}
