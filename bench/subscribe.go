package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"foundry/internal/postgres"
)

func eventsPayload(id uuid.UUID) string { return postgres.FormatEvents([]uuid.UUID{id}) }

// subscriber is one stream.
type subscriber struct {
	rest []byte // of a frame that has not arrived whole
}

// subscribeMain is the process of subscribers: one thread that waits for all connections at once, so that readers take little of what
// the program under test could use. It says ready on stdout, reads until stdin ends, and then prints a delivery.
func subscribeMain(text string) error {
	var s subscription
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return err
	}
	poll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	all := map[int32]*subscriber{}
	for i := range s.Streams {
		fd, err := connect(s, s.Tokens[i/streamsPerToken])
		if err != nil {
			return err
		}
		if err := unix.EpollCtl(poll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}); err != nil {
			return err
		}
		all[int32(fd)] = &subscriber{}
	}
	if _, err := fmt.Fprintln(os.Stdout, "ready"); err != nil {
		return err
	}
	var over atomic.Bool
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // until it ends, however
		over.Store(true)
	}()
	took, ended, err := follow(poll, all, &over)
	if err != nil {
		return err
	}
	d := delivery{Events: len(took), Ended: ended}
	if len(took) > 0 {
		d.P50, d.P99, d.P999 = percentile(took, 50), percentile(took, 99), percentile(took, 99.9)
	}
	return json.NewEncoder(os.Stdout).Encode(d)
}

// connect opens a stream and reads its header. The descriptor stays open until the process ends.
func connect(s subscription, token string) (int, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(context.Background(), "tcp", s.Address)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	request := fmt.Sprintf("GET /api/v1%s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nAccept: text/event-stream\r\n\r\n", s.Path, s.Address, token)
	if _, err := conn.Write([]byte(request)); err != nil {
		return 0, err
	}
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return 0, err
	}
	var head []byte
	buffer := make([]byte, 16<<10)
	for !bytes.Contains(head, []byte(": connected\n\n")) { // from then on nothing is missed
		n, err := conn.Read(buffer)
		if err != nil {
			return 0, fmt.Errorf("opening a stream: %w after %.300q", err, head)
		}
		head = append(head, buffer[:n]...)
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return 0, errors.New("a TCP connection is none")
	}
	file, err := tcp.File() // a descriptor of our own, which the runtime does not watch
	if err != nil {
		return 0, err
	}
	defer file.Close()
	fd, err := unix.Dup(int(file.Fd()))
	if err != nil {
		return 0, err
	}
	return fd, unix.SetNonblock(fd, true)
}

// follow reads from all streams, and returns the milliseconds that each event took.
func follow(poll int, all map[int32]*subscriber, over *atomic.Bool) (took []float64, ended int, err error) {
	ready := make([]unix.EpollEvent, 256)
	buffer := make([]byte, 64<<10)
	for !over.Load() {
		n, err := unix.EpollWait(poll, ready, 100)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return nil, 0, err
		}
		for _, event := range ready[:max(n, 0)] {
			size, err := unix.Read(int(event.Fd), buffer)
			if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
				continue
			}
			if err != nil || size == 0 {
				ended++
				_ = unix.EpollCtl(poll, unix.EPOLL_CTL_DEL, int(event.Fd), nil)
				continue
			}
			took = all[event.Fd].take(buffer[:size], time.Now(), took)
		}
	}
	return took, ended, nil
}

// take finds the events that have arrived whole.
func (s *subscriber) take(arrived []byte, now time.Time, took []float64) []float64 {
	data := arrived
	if len(s.rest) > 0 {
		data = append(s.rest, arrived...)
	}
	const field = `"sent":`
	for {
		i := bytes.Index(data, []byte(field))
		if i < 0 {
			break
		}
		digits := data[i+len(field):]
		for len(digits) > 0 && digits[0] == ' ' {
			digits = digits[1:]
		}
		end := bytes.IndexAny(digits, ",}")
		if end < 0 {
			s.rest = append([]byte(nil), data[i:]...)
			return took
		}
		if sent, err := strconv.ParseInt(string(digits[:end]), 10, 64); err == nil {
			took = append(took, float64(now.UnixNano()-sent)/1e6)
		}
		data = digits[end:]
	}
	s.rest = append(s.rest[:0:0], data[max(0, len(data)-len(field)):]...)
	return took
}
