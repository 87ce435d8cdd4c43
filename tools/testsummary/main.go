// Command testsummary turns the stream of go test -json into what a person wants to read: the line of every package, the output of the
// tests that failed, and the list of the tests that were skipped, with their reasons.
//
//	go test -json ./... | testsummary -allow .ci/allowed-skips
//
// It exits with 1 when a test or a package failed, when a skipped test is not in the list of allowed ones, or when the
// stream ends before every package has.
package main

import (
	"flag"
	"fmt"
	"os"
)

func main() {
	allow := flag.String("allow", "", "file with the tests that may be skipped")
	flag.Parse()

	ok, err := run(*allow)
	if err != nil {
		fmt.Fprintln(os.Stderr, "testsummary:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

func run(allow string) (bool, error) {
	allowed := map[string]string{}
	if allow != "" {
		file, err := os.Open(allow)
		if err != nil {
			return false, err
		}
		defer file.Close()
		if allowed, err = readAllowed(file); err != nil {
			return false, fmt.Errorf("reading %s: %w", allow, err)
		}
	}
	return summarize(os.Stdin, os.Stdout, allowed)
}
