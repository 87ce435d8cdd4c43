package shim

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"
)

// Pacing of a pump. A frame costs two system calls here and a header everywhere after; a writer of
// very many tiny pieces is let collect them in its pipe once its burst is used up. Ordinary
// output stays below the burst and keeps its order across the streams.
const (
	pumpBurst  = 256
	pumpRefill = 2 * time.Millisecond // the time that earns one more frame
	pumpPause  = time.Millisecond
)

// maxPipe is the size of the largest pipe in bytes that a command can ask for. More than that in a pipe is from somebody who goes on writing.
const maxPipe = 1 << 20

// A disk that is full may have room again: somebody deletes something, a neighbour's command ends. Until then the command
// waits in its pipe.
const (
	roomPatience = 30 * time.Second
	roomPoll     = 50 * time.Millisecond
)

// recorder appends frames to the output file. Its methods may be called concurrently.
type recorder struct {
	file  outputFile
	limit int64 // bytes of data that may still be stored

	mu        sync.Mutex
	size      int64 // of the file
	pos       [Notice + 1]int64
	truncated bool
	err       error // the first failed write; nothing is stored after it
}

// outputFile is what recorder needs of an *os.File.
type outputFile interface {
	io.WriteCloser
	Truncate(size int64) error
}

func newRecorder(name string, limit int64) (*recorder, error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	return &recorder{file: f, limit: limit}, nil
}

// record stores the data that follow FrameHeaderSize bytes of room in buf, as one frame
// with one write. Beyond the limit data are dropped, after one notice.
func (r *recorder) record(s Stream, buf []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.truncated || r.err != nil {
		return
	}
	over := int64(len(buf)-FrameHeaderSize) > r.limit
	if over {
		buf = buf[:FrameHeaderSize+r.limit]
	}
	if len(buf) > FrameHeaderSize {
		r.append(s, buf)
		r.limit -= int64(len(buf) - FrameHeaderSize)
	}
	if over {
		r.truncated = true
		total := r.pos[Stdout] + r.pos[Stderr]
		notice := fmt.Sprintf("The output limit of %d bytes is reached; what follows is dropped.\n", total)
		r.append(Notice, append(make([]byte, FrameHeaderSize), notice...))
	}
}

func (r *recorder) append(s Stream, buf []byte) {
	data := buf[FrameHeaderSize:]
	putHeader(buf, Frame{Stream: s, Time: time.Now(), Pos: r.pos[s], Data: data})
	for giveUp := time.Now().Add(roomPatience); ; time.Sleep(roomPoll) {
		_, err := r.file.Write(buf)
		if err == nil {
			break
		}
		// A torn frame would hide whatever came after it.
		cut := r.file.Truncate(r.size)
		if cut != nil || !isFull(err) || time.Now().After(giveUp) {
			r.err = errors.Join(fmt.Errorf("storing output: %w", err), cut)
			return
		}
	}
	r.pos[s] += int64(len(data))
	r.size += int64(len(buf))
}

func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// result returns the final figures.
func (r *recorder) result() (size int64, truncated bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.size, r.truncated, r.err
}

// pump records a stream until its end, and drains it when nothing is stored any more.
func pump(from io.Reader, s Stream, to *recorder) {
	buf := make([]byte, MaxFrameSize)
	pace := pacer{budget: pumpBurst, last: time.Now()}
	for {
		n, err := from.Read(buf[FrameHeaderSize:])
		if n > 0 {
			to.record(s, buf[:FrameHeaderSize+n])
		}
		if err != nil {
			return
		}
		if n < MaxFrameData/2 {
			pace.wait()
		}
	}
}

// recordRest records what is in a pipe now and waits for nothing. No pump reads from it any more.
func recordRest(from *os.File, s Stream, to *recorder) {
	_ = from.SetReadDeadline(time.Time{})
	raw, err := from.SyscallConn()
	if err != nil {
		return
	}
	buf := make([]byte, MaxFrameSize)
	for left := maxPipe; left > 0; {
		n := 0
		_ = raw.Read(func(fd uintptr) bool {
			n, err = syscall.Read(int(fd), buf[FrameHeaderSize:])
			return true
		})
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if n <= 0 {
			return
		}
		to.record(s, buf[:FrameHeaderSize+n])
		left -= n
	}
}

type pacer struct {
	budget float64
	last   time.Time
}

func (p *pacer) wait() {
	now := time.Now()
	p.budget = min(pumpBurst, p.budget+float64(now.Sub(p.last))/float64(pumpRefill)) - 1
	p.last = now
	if p.budget < 0 {
		time.Sleep(pumpPause)
	}
}
