package httpapi

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// pipeListener accepts one connection whose other end is in memory, so that time can be the bubble's.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { close(l.done); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

// serveStream serves one stream, whose relay is given. It returns the client's end of the connection, on which a
// request has been sent, and what follow returns.
func serveStream(t *testing.T, relay func(out *sse) (<-chan struct{}, error)) (client net.Conn, result chan error) {
	t.Helper()
	listener := &pipeListener{conns: make(chan net.Conn, 1), done: make(chan struct{})}
	result = make(chan error, 1)
	server := &http.Server{ReadHeaderTimeout: headerTimeout, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out, err := startSSE(w)
		if err != nil {
			result <- err
			return
		}
		result <- out.follow(r.Context(), func() (<-chan struct{}, error) { return relay(out) })
	})}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	client, remote := net.Pipe()
	listener.conns <- remote
	t.Cleanup(func() {
		client.Close()
		server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve() = %v", err)
		}
	})
	if _, err := io.WriteString(client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	return client, result
}

func TestSilentStream(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		client, result := serveStream(t, func(*sse) (<-chan struct{}, error) { return make(chan struct{}), nil })
		var beats []time.Duration
		lines := bufio.NewScanner(client)
		for lines.Scan() && lines.Text() != "0" { // the last chunk
			if strings.HasPrefix(lines.Text(), ": still here") {
				beats = append(beats, time.Since(start))
			}
		}
		if err := <-result; err != nil {
			t.Errorf("follow() = %v", err)
		}
		if took := time.Since(start); took < streamAtLeast || took > streamAtLeast+streamSpread {
			t.Errorf("the stream has ended itself after %s", took)
		}
		for i, at := range beats {
			if want := time.Duration(i+1) * heartbeatEvery; at != want {
				t.Fatalf("heartbeat %d after %s, want %s", i+1, at, want)
			}
		}
		if n := len(beats); n < 47 { // 12 minutes of them
			t.Errorf("%d heartbeats", n)
		}
	})
}

func TestBusyStreamEndsItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		client, result := serveStream(t, func(out *sse) (<-chan struct{}, error) {
			time.Sleep(time.Second) //nolint:forbidigo // the bubble's time: a write that takes a while
			return nil, out.event("warning")
		})
		if _, err := io.Copy(io.Discard, io.LimitReader(client, 1)); err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.Copy(io.Discard, client) }()
		if err := <-result; err != nil {
			t.Errorf("follow() = %v", err)
		}
		if took := time.Since(start); took < streamAtLeast || took > streamAtLeast+streamSpread+time.Second {
			t.Errorf("the stream has ended itself after %s", took)
		}
	})
}

func TestStuckReaderIsDropped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, result := serveStream(t, func(out *sse) (<-chan struct{}, error) {
			return nil, errors.Join(out.write(make([]byte, 10*pieceBytes)), out.flush())
		})
		if _, err := io.ReadFull(client, make([]byte, 4*pieceBytes)); err != nil { // it takes some, and then no more
			t.Fatal(err)
		}
		stuck := time.Now()
		if err := <-result; !errors.Is(err, errClientGone) {
			t.Errorf("follow() = %v, want errClientGone", err)
		}
		if took := time.Since(stuck); took != writeTimeout {
			t.Errorf("it was dropped after %s, want %s", took, writeTimeout)
		}
	})
}

func TestStreamEndsWithItsRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, result := serveStream(t, func(*sse) (<-chan struct{}, error) { return make(chan struct{}), nil })
		if _, err := io.ReadFull(client, make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		client.Close()
		if err := <-result; err != nil && !errors.Is(err, errClientGone) && !errors.Is(err, context.Canceled) {
			t.Errorf("follow() = %v", err)
		}
	})
}
