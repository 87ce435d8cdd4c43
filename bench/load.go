package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// caller sends one request again and again over one TCP connection and reads each answer before it sends the next. It is as thin
// as HTTP/1.1 allows: what it costs, the program under test cannot have.
type caller struct {
	conn    net.Conn
	reader  *bufio.Reader
	request []byte
}

func newCaller(ctx context.Context, address string, request []byte) (*caller, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &caller{conn: conn, reader: bufio.NewReader(conn), request: request}, nil
}

// post is a request that queues an execution without inputs.
func (in *installation) post(slug string) []byte {
	const body = `{"inputs":{}}`
	return fmt.Appendf(nil, "POST /api/v1/workflows/%s/executions HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n"+
		"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", slug, in.address, in.token, len(body), body)
}

// get is a request that reads.
func (in *installation) get(path string) []byte {
	return fmt.Appendf(nil, "GET /api/v1%s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", path, in.address, in.token)
}

// call makes one request and returns the body of a success, which is valid until the next call.
func (c *caller) call() ([]byte, error) {
	if _, err := c.conn.Write(c.request); err != nil {
		return nil, err
	}
	line, err := c.reader.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	status := string(bytes.TrimSpace(line))
	length := -1
	for {
		line, err = c.reader.ReadSlice('\n')
		if err != nil {
			return nil, err
		}
		if line = bytes.TrimSpace(line); len(line) == 0 {
			break
		}
		if name, value, _ := bytes.Cut(line, []byte(": ")); bytes.EqualFold(name, []byte("Content-Length")) {
			if length, err = strconv.Atoi(string(value)); err != nil {
				return nil, err
			}
		}
	}
	body, err := c.body(length)
	if err != nil {
		return nil, err
	}
	if len(status) < 12 || status[9] != '2' {
		return nil, fmt.Errorf("%s: %.300s", status, body)
	}
	return body, nil
}

// body reads a body of a known length, or one in chunks.
func (c *caller) body(length int) ([]byte, error) {
	if length >= 0 {
		body := make([]byte, length)
		_, err := io.ReadFull(c.reader, body)
		return body, err
	}
	var body []byte
	for {
		line, err := c.reader.ReadSlice('\n')
		if err != nil {
			return nil, err
		}
		size, err := strconv.ParseInt(string(bytes.TrimSpace(line)), 16, 64)
		if err != nil {
			return nil, err
		}
		chunk := make([]byte, size+2)
		if _, err := io.ReadFull(c.reader, chunk); err != nil {
			return nil, err
		}
		if size == 0 {
			return body, nil
		}
		body = append(body, chunk[:size]...)
	}
}

// volley makes n requests over some connections, and returns how long each took.
func volley(ctx context.Context, address string, request []byte, n, connections int) ([]time.Duration, error) {
	var (
		left  atomic.Int64
		wg    sync.WaitGroup
		mu    sync.Mutex
		all   []time.Duration
		first error
	)
	left.Store(int64(n))
	for range connections {
		wg.Go(func() {
			var took []time.Duration
			c, err := newCaller(ctx, address, request)
			if err == nil {
				defer c.conn.Close()
				for ctx.Err() == nil && left.Add(-1) >= 0 {
					began := time.Now()
					if _, err = c.call(); err != nil {
						break
					}
					took = append(took, time.Since(began))
				}
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, took...)
			if first == nil {
				first = err
			}
		})
	}
	wg.Wait()
	if first == nil {
		first = ctx.Err()
	}
	return all, first
}

// inMilliseconds converts durations.
func inMilliseconds(all []time.Duration) []float64 {
	out := make([]float64, len(all))
	for i, d := range all {
		out[i] = float64(d) / float64(time.Millisecond)
	}
	return out
}

// idIn is the id in an answer.
func idIn(body []byte) (string, error) {
	var answer struct{ ID string }
	if err := json.Unmarshal(body, &answer); err != nil || answer.ID == "" {
		return "", fmt.Errorf("no id in %.200q", body)
	}
	return answer.ID, nil
}
