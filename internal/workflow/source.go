package workflow

import (
	"strings"
	"unicode/utf8"
)

// span is a stretch of the text, all within it; lines and columns count from 1, columns in
// characters.
type span struct {
	line, column       int
	endLine, endColumn int
}

// mark is where something begins and how wide it is, as the YAML library says. It becomes a
// span only for a diagnostic: finding a column is linear in its line, and a text may have
// 100,000 values in one.
type mark struct {
	line, column int
	width        int // in characters, or one of the two below
}

const (
	toLineEnd = 0  // to the end of the line
	toQuote   = -1 // to the end of the quoted string, or of its first line
)

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

// resolve finds a mark in the text.
func (s *source) resolve(m mark) span {
	switch m.width {
	case toLineEnd:
		return s.rest(m.line, m.column)
	case toQuote:
		return s.span(m.line, m.column, quotedWidth(s.at(m.line, m.column)))
	}
	return s.span(m.line, m.column, m.width)
}

// quotedWidth is the number of characters of the quoted string that text starts with, or
// of all of text when it goes on in the next line.
func quotedWidth(text string) int {
	if text == "" {
		return 1
	}
	quote, width, escaped := rune(text[0]), 0, false
	for i, r := range text {
		width++
		if i > 0 && r == quote && !escaped {
			return width
		}
		escaped = quote == '"' && r == '\\' && !escaped
	}
	return width
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
