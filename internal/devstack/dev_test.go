package devstack

import (
	"bytes"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"foundry/internal/errs"
)

func TestTakenPortNamesTheFlag(t *testing.T) {
	t.Parallel()
	first, err := listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	_, err = listen(t.Context(), first.Addr().String())
	if !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), first.Addr().String()) || !strings.Contains(err.Error(), "--addr") {
		t.Errorf("got %v, want a sentence with the address and --addr", err)
	}
	if _, err := listen(t.Context(), "nonsense"); !errs.Is(err, errs.Invalid) {
		t.Errorf("an address without port gives %v, want an error for a person", err)
	}
}

func TestReachable(t *testing.T) {
	t.Parallel()
	tests := map[string]*net.TCPAddr{
		"127.0.0.1:80": {IP: net.IPv4(127, 0, 0, 1), Port: 80},
		"127.0.0.1:81": {IP: net.IPv6unspecified, Port: 81},
		"127.0.0.1:82": {IP: net.IPv4zero, Port: 82},
		"[::1]:83":     {IP: net.IPv6loopback, Port: 83},
	}
	for want, addr := range tests {
		if got := reachable(addr); got != want {
			t.Errorf("reachable(%v) = %s, want %s", addr, got, want)
		}
	}
}

func TestLogWriter(t *testing.T) {
	t.Parallel()
	var file bytes.Buffer
	var told []string
	w := &logWriter{file: &file, tell: func(line string) { told = append(told, line) }}
	in := `{"level":"info","message":"quiet"}` + "\n" +
		`{"level":"warn","node":"n","execution_id":"e","time":"t","message":"loud"}` + "\n" +
		"panic: oh no\n\n" +
		`{"level":"error","message":"last"}` + "\n"
	for len(in) > 0 { // however it is cut
		n := min(7, len(in))
		if _, err := w.Write([]byte(in[:n])); err != nil {
			t.Fatal(err)
		}
		in = in[n:]
	}
	want := []string{"warn: loud execution_id=e node=n", "panic: oh no", "error: last"}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
	if got := strings.Count(file.String(), "\n"); got != 5 {
		t.Errorf("the file has %d lines, want all 5", got)
	}
	if _, err := w.Write(bytes.Repeat([]byte("x"), maxLogLine+1)); err != nil || len(w.rest) != 0 {
		t.Errorf("an endless line is held: %d bytes (%v)", len(w.rest), err)
	}
}
