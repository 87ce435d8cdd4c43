package main

import (
	"strings"
	"testing"
)

func TestSummarize(t *testing.T) {
	t.Parallel()
	const (
		start = `{"Action":"start","Package":"p"}` + "\n"
		ok    = `{"Action":"output","Package":"p","Output":"ok  \tp\t0.1s\n"}` + "\n" + `{"Action":"pass","Package":"p"}` + "\n"
		pass  = `{"Action":"output","Package":"p","Test":"TestA","Output":"noise\n"}` + "\n" + `{"Action":"pass","Package":"p","Test":"TestA"}` + "\n"
		fail  = `{"Action":"output","Package":"p","Test":"TestB","Output":"a_test.go:1: broken\n"}` + "\n" +
			`{"Action":"fail","Package":"p","Test":"TestB"}` + "\n" +
			`{"Action":"output","Package":"p","Output":"FAIL\tp\t0.1s\n"}` + "\n" + `{"Action":"fail","Package":"p"}` + "\n"
		skipped = `{"Action":"output","Package":"p","Test":"TestC/sub","Output":"=== RUN   TestC/sub\n"}` + "\n" +
			`{"Action":"output","Package":"p","Test":"TestC/sub","Output":"    c_test.go:2: no bwrap here\n"}` + "\n" +
			`{"Action":"skip","Package":"p","Test":"TestC/sub"}` + "\n"
		unbuilt = `{"ImportPath":"p [p.test]","Action":"build-output","Output":"./p.go:1: undefined: x\n"}` + "\n" +
			`{"Action":"start","Package":"p"}` + "\n" +
			`{"Action":"output","Package":"p","Output":"FAIL\tp [build failed]\n"}` + "\n" +
			`{"Action":"fail","Package":"p","FailedBuild":"p [p.test]"}` + "\n"
		dies = `{"Action":"output","Package":"p","Test":"TestD","Output":"last words\n"}` + "\n" +
			`{"Action":"output","Package":"p","Output":"exit status 3\n"}` + "\n" + `{"Action":"fail","Package":"p"}` + "\n"
	)
	tests := []struct {
		name    string
		stream  string
		allowed string
		ok      bool
		want    []string
		absent  string
	}{
		{"a pass is one line", start + pass + ok, "", true, []string{"ok  \tp\t0.1s\n", "1 passed, 0 failed, 0 skipped"}, "noise"},
		{"a failure shows its output", start + pass + fail, "", false, []string{"FAIL\tp\t0.1s", "a_test.go:1: broken", "p TestB\n"}, "noise"},
		{"a skip is refused by default", start + skipped + ok, "", false, []string{"p TestC/sub: c_test.go:2: no bwrap here  [NOT ALLOWED]"}, "=== RUN"},
		{"a skip may be allowed by name", start + skipped + ok, "p TestC/sub why", true, []string{"p TestC/sub: c_test.go:2: no bwrap here\n"}, "NOT"},
		{"a skip may be allowed by its parent", start + skipped + ok, "p TestC why", true, nil, "NOT"},
		{"an allowed skip is of one package", start + skipped + ok, "q TestC why", false, []string{"NOT ALLOWED"}, ""},
		{"a package that does not compile", unbuilt, "", false, []string{"./p.go:1: undefined: x", "[build failed]"}, ""},
		{"a package that dies", start + dies, "", false, []string{"p TestD, which has not ended\nlast words\n", "p\nexit status 3\n"}, ""},
		{"a stream that breaks off", start + pass, "", false, []string{"unfinished: the stream ended before package p"}, ""},
		{"foreign lines are shown", "panic: oops\n" + start + ok, "", true, []string{"panic: oops"}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			allowed, err := readAllowed(strings.NewReader(test.allowed))
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			ok, err := summarize(strings.NewReader(test.stream), &out, allowed)
			if err != nil || ok != test.ok {
				t.Errorf("summarize: %t, %v; want %t", ok, err, test.ok)
			}
			for _, want := range test.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("missing %q in:\n%s", want, out.String())
				}
			}
			if test.absent != "" && strings.Contains(out.String(), test.absent) {
				t.Errorf("unwanted %q in:\n%s", test.absent, out.String())
			}
		})
	}
}

func TestSummarizeRefusesNothing(t *testing.T) {
	t.Parallel()
	if _, err := summarize(strings.NewReader("go: cannot find main module\n"), &strings.Builder{}, nil); err == nil {
		t.Error("a stream without a single event passed")
	}
}

func TestReadAllowedWantsAReason(t *testing.T) {
	t.Parallel()
	if _, err := readAllowed(strings.NewReader("# comment\n\np TestA\n")); err == nil || !strings.Contains(err.Error(), "line 3") {
		t.Errorf("got %v, want an error about line 3", err)
	}
}
