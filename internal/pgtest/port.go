package pgtest

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"syscall"
	"testing"
)

// FreePort finds a port below those that connections are given on their way out: one of these could take it while its server is away.
func FreePort(t testing.TB) int {
	t.Helper()
	var config net.ListenConfig
	for {
		port := 10_000 + rand.IntN(20_000)
		listener, err := config.Listen(t.Context(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		_ = listener.Close() // it has accepted nothing
		return port
	}
}
