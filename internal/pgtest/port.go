package pgtest

import (
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"syscall"
	"testing"
)

// FreePort finds a port for a server of this test. It is the test's until its end, also while the server is away: nobody else finds it here, and
// it is below those that connections are given on their way out.
func FreePort(t testing.TB) int {
	t.Helper()
	for {
		port := 10_000 + rand.IntN(20_000)
		socket, err := reserve(port)
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = syscall.Close(socket) })
		return port
	}
}

// reserve binds a socket to a port of this machine. It never listens, so that servers may, which reuse addresses; a second
// one that wants to reserve the port may not, since it does not do so before it is bound.
func reserve(port int) (socket int, err error) {
	syscall.ForkLock.RLock()
	socket, err = syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(socket)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	address := &syscall.SockaddrInet4{Port: port, Addr: [4]byte(net.IPv4(127, 0, 0, 1).To4())}
	err = os.NewSyscallError("bind", syscall.Bind(socket, address))
	if err == nil {
		err = os.NewSyscallError("setsockopt", syscall.SetsockoptInt(socket, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1))
	}
	if err != nil {
		_ = syscall.Close(socket) // nothing was done with it
	}
	return socket, err
}
