package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// event is one line of go test -json, as cmd/test2json documents it. Builds write lines of their own, which carry ImportPath.
type event struct {
	Action      string
	Package     string
	ImportPath  string
	Test        string
	Output      string
	FailedBuild string
}

// testID names a test, or with an empty test a package as a whole.
type testID struct{ pkg, test string }

// summary is what has been read so far.
type summary struct {
	out     io.Writer
	allowed map[string]string
	output  map[testID][]string // of tests that have not ended
	builds  map[string][]string // of packages that do not compile, by import path
	open    map[string]bool     // packages that have started and not ended
	skipped []skip
	passed  int
	failed  []testID
}

type skip struct {
	id     testID
	reason string
}

// summarize copies what matters from the stream to out, as it comes. It says whether everything passed and every skipped test was
// allowed; the error is about the stream itself. allowed maps "package test" to a reason and covers the subtests.
func summarize(stream io.Reader, out io.Writer, allowed map[string]string) (bool, error) {
	s := &summary{
		out:     out,
		allowed: allowed,
		output:  map[testID][]string{},
		builds:  map[string][]string{},
		open:    map[string]bool{},
	}
	seen := false
	lines := bufio.NewReader(stream)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil {
				fmt.Fprintf(out, "%s", line) // not an event: something wrote to the same pipe, and a reader should see it
			} else {
				seen = true
				s.add(e)
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return false, fmt.Errorf("reading the stream: %w", err)
		}
	}
	if !seen {
		return false, fmt.Errorf("the stream is empty: no test has run")
	}
	return s.end(), nil
}

func (s *summary) add(e event) {
	id := testID{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		s.builds[e.ImportPath] = append(s.builds[e.ImportPath], e.Output)
	case "start":
		s.open[e.Package] = true
	case "output":
		s.addOutput(id, e.Output)
	case "pass":
		if e.Test == "" {
			delete(s.open, e.Package)
		} else {
			s.passed++
		}
		delete(s.output, id)
	case "skip":
		s.addSkip(id)
	case "fail":
		s.addFailure(id, e.FailedBuild)
	}
}

// addOutput prints the closing line of a package at once, and keeps everything else until its test has ended.
func (s *summary) addOutput(id testID, text string) {
	if id.test == "" && (strings.HasPrefix(text, "ok  \t") || strings.HasPrefix(text, "?   \t") || strings.HasPrefix(text, "FAIL\t")) {
		fmt.Fprint(s.out, text)
		return
	}
	s.output[id] = append(s.output[id], text)
}

func (s *summary) addSkip(id testID) {
	if id.test == "" { // a package without tests
		delete(s.open, id.pkg)
		delete(s.output, id)
		return
	}
	s.skipped = append(s.skipped, skip{id, reason(s.output[id])})
	delete(s.output, id)
}

func (s *summary) addFailure(id testID, failedBuild string) {
	s.failed = append(s.failed, id)
	fmt.Fprintf(s.out, "\n--- output of %s\n", id)
	for _, text := range slices.Concat(s.builds[failedBuild], s.output[id]) {
		fmt.Fprint(s.out, text)
	}
	delete(s.output, id)
	if id.test == "" {
		delete(s.open, id.pkg)
		s.printUnended(id.pkg)
	}
}

// printUnended shows what the tests had said that were running when the process of their package died.
func (s *summary) printUnended(pkg string) {
	for id, output := range s.output {
		if id.pkg == pkg {
			fmt.Fprintf(s.out, "\n--- output of %s, which has not ended\n%s", id, strings.Join(output, ""))
			delete(s.output, id)
		}
	}
}

// end prints the lists and says whether the run may pass.
func (s *summary) end() bool {
	slices.SortFunc(s.skipped, func(a, b skip) int { return cmp.Compare(a.id.String(), b.id.String()) })
	refused := 0
	fmt.Fprintf(s.out, "\nskipped tests: %d\n", len(s.skipped))
	for _, skip := range s.skipped {
		note := ""
		if !s.mayskip(skip.id) {
			note = "  [NOT ALLOWED]"
			refused++
		}
		fmt.Fprintf(s.out, "  %s: %s%s\n", skip.id, skip.reason, note)
	}
	if len(s.failed) > 0 {
		fmt.Fprintf(s.out, "failed: %d\n", len(s.failed))
		for _, id := range s.failed {
			fmt.Fprintf(s.out, "  %s\n", id)
		}
	}
	for pkg := range s.open {
		fmt.Fprintf(s.out, "unfinished: the stream ended before package %s\n", pkg)
	}
	fmt.Fprintf(s.out, "tests: %d passed, %d failed, %d skipped, %d of them not allowed\n",
		s.passed, len(s.failed), len(s.skipped), refused)
	return len(s.failed) == 0 && len(s.open) == 0 && refused == 0
}

// mayskip looks for the test or a test that it is a part of.
func (s *summary) mayskip(id testID) bool {
	for name := id.test; ; {
		if _, ok := s.allowed[id.pkg+" "+name]; ok {
			return true
		}
		cut := strings.LastIndexByte(name, '/')
		if cut < 0 {
			return false
		}
		name = name[:cut]
	}
}

func (id testID) String() string {
	if id.test == "" {
		return id.pkg
	}
	return id.pkg + " " + id.test
}

// reason joins what a skipped test has said, without the lines of the test runner.
func reason(output []string) string {
	var said []string
	for _, text := range output {
		text = strings.TrimSpace(text)
		if text != "" && !strings.HasPrefix(text, "=== ") && !strings.HasPrefix(text, "--- ") {
			said = append(said, text)
		}
	}
	return cmp.Or(strings.Join(said, " "), "no reason given")
}

// readAllowed reads lines of "package test reason"; # begins a comment, and a line without a reason is an error.
func readAllowed(r io.Reader) (map[string]string, error) {
	allowed := map[string]string{}
	lines := bufio.NewScanner(r)
	for number := 1; lines.Scan(); number++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Fields(line)
		if len(fields) < 3 {
			return nil, fmt.Errorf("line %d: want a package, a test and a reason", number)
		}
		allowed[fields[0]+" "+fields[1]] = strings.Join(fields[2:], " ")
	}
	return allowed, lines.Err()
}
