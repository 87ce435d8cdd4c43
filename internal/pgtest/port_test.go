package pgtest

import (
	"errors"
	"net"
	"strconv"
	"syscall"
	"testing"
)

// TestFreePortIsNobodyElses holds that a server can have the port again and again, on all addresses or one, and that meanwhile nobody
// else finds it, whether the server is there or not.
func TestFreePortIsNobodyElses(t *testing.T) {
	t.Parallel()
	port := FreePort(t)
	refused := func(when string) {
		socket, err := reserve(port)
		if !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("%s another may reserve it: %v", when, err)
		}
		if err == nil {
			_ = syscall.Close(socket)
		}
	}
	refused("before the server")
	for _, host := range []string{"", "127.0.0.1", ""} {
		listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err != nil {
			t.Fatal(err)
		}
		refused("beside the server")
		if other, err := new(net.ListenConfig).Listen(t.Context(), "tcp", net.JoinHostPort(host, strconv.Itoa(port))); err == nil {
			t.Error("two servers listen on it")
			other.Close()
		}
		listener.Close()
		refused("behind the server")
	}
}
