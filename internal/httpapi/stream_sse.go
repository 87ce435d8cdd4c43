package httpapi

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"foundry/internal/errs"
	"foundry/internal/stream"
)

const (
	// heartbeatEvery keeps proxies from closing a silent connection.
	heartbeatEvery = 15 * time.Second
	// A stream ends itself within this span and a heartbeat, before a platform does (Railway: after 15 minutes), and not
	// together with all others that began with it.
	streamAtLeast = 12 * time.Minute
	streamSpread  = 2 * time.Minute
	// writeTimeout is for each piece of pieceBytes: a client that takes nothing for so long is dropped.
	writeTimeout = 10 * time.Second
	pieceBytes   = 32 << 10
)

// liveWriter writes an answer that goes on: a piece at a time, each with its deadline.
type liveWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

// startLive sends the header of an answer that goes on.
func startLive(w http.ResponseWriter, contentType string) *liveWriter {
	header := w.Header()
	header.Set("Content-Type", contentType)
	header.Set("Cache-Control", "no-cache, no-transform")
	header.Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
	return &liveWriter{w: w, control: http.NewResponseController(w)}
}

func (l *liveWriter) write(b []byte) error {
	for len(b) > 0 {
		n := min(len(b), pieceBytes)
		if err := l.extend(); err != nil {
			return err
		}
		if _, err := l.w.Write(b[:n]); err != nil {
			return errors.Join(errClientGone, err)
		}
		b = b[n:]
	}
	return nil
}

func (l *liveWriter) flush() error {
	if err := l.extend(); err != nil {
		return err
	}
	if err := l.control.Flush(); err != nil {
		return errors.Join(errClientGone, err)
	}
	return nil
}

// send writes pieces and flushes. What fits into one piece has one deadline and is one write to the connection: with a thousand streams
// that is nearly all that an event costs.
func (l *liveWriter) send(pieces ...[]byte) error {
	size := 0
	for _, piece := range pieces {
		size += len(piece)
	}
	if size > pieceBytes {
		for _, piece := range pieces {
			if err := l.write(piece); err != nil {
				return err
			}
		}
		return l.flush()
	}
	if err := l.extend(); err != nil {
		return err
	}
	for _, piece := range pieces {
		if _, err := l.w.Write(piece); err != nil {
			return errors.Join(errClientGone, err)
		}
	}
	if err := l.control.Flush(); err != nil {
		return errors.Join(errClientGone, err)
	}
	return nil
}

func (l *liveWriter) extend() error {
	if err := l.control.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return errors.Join(errClientGone, err)
	}
	return nil
}

// finish gives the connection back for the next request.
func (l *liveWriter) finish() {
	_ = l.control.SetWriteDeadline(time.Time{}) // it fails only on a connection that has gone
}

// sse writes server-sent events.
type sse struct{ *liveWriter }

// startSSE sends the header, how soon to reconnect, and a comment, so that every proxy passes it on at once.
func startSSE(w http.ResponseWriter) (*sse, error) {
	l := startLive(w, "text/event-stream")
	if err := l.write([]byte("retry: 2000\n\n: connected\n\n")); err != nil {
		return nil, err
	}
	return &sse{l}, l.flush()
}

// event sends an event that only has a name. An EventSource ignores one without data.
func (s *sse) event(name string) error {
	return s.send(stream.Message(name, []byte("{}")))
}

// last sends an event after which the stream is over: its error is io.EOF.
func (s *sse) last(name string) error {
	if err := s.event(name); err != nil {
		return err
	}
	return io.EOF
}

// follow calls relay whenever there may be something to write: at once when it returned no channel, else when
// that is closed. It ends by itself after a while, when ctx ends, and when relay says that the stream is over.
func (s *sse) follow(ctx context.Context, relay func() (changed <-chan struct{}, err error)) error {
	defer s.finish()
	heartbeat := time.NewTicker(heartbeatEvery)
	defer heartbeat.Stop()
	end := time.Now().Add(streamAtLeast + rand.N(streamSpread)) //nolint:gosec // jitter
	for {
		changed, err := relay()
		if err != nil {
			return s.ended(err)
		}
		if changed == nil {
			// A stream that always has something comes to its end too.
			if ctx.Err() != nil || time.Now().After(end) {
				return nil
			}
			continue
		}
		select { // few cases, since every event of every stream passes here
		case <-changed:
		case now := <-heartbeat.C:
			if now.After(end) {
				return nil
			}
			if err := s.comment(); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

func (s *sse) comment() error {
	return s.send([]byte(": still here\n\n"))
}

// moved sends the client to another server: it comes back at once, and not after the two seconds of other ends.
func (s *sse) moved() error {
	return s.send([]byte("retry: 250\n\n"))
}

// ended turns what ends a stream in an orderly way into nil: the client reconnects and learns the rest.
func (s *sse) ended(err error) error {
	if errors.Is(err, stream.ErrStopped) {
		return s.moved()
	}
	if errors.Is(err, io.EOF) || errs.Is(err, errs.NotFound) {
		return nil
	}
	return err
}
