package engine

import (
	"fmt"

	"github.com/google/uuid"

	"foundry/internal/event"
	"foundry/internal/journal"
	"foundry/internal/redact"
	"foundry/internal/shim"
)

// output turns a node run's frames into records: redacted bytes in chunks, and the cursor that a
// reader who has stored them goes on from. It is used by one goroutine.
type output struct {
	id      uuid.UUID
	next    int64 // offset in the shim's file of the next frame to read
	at      int64 // offset of the frame being fed
	stamp   int64 // of the checkpoints, as it was told last
	out     stream
	err     stream
	records []journal.Record
}

// stream is one of the two streams of an output.
type stream struct {
	name   event.Stream
	w      *redact.Writer
	raw    int64 // raw position of the next byte to feed
	stored int64 // bytes stored
	// held are the frames that the writer has not wholly released, oldest first.
	held []heldFrame
}

type heldFrame struct {
	offset int64 // in the shim's file
	rawEnd int64
}

func newOutput(c journal.Cursor, set *redact.Set) *output {
	at := c.Position
	return &output{
		id: c.NodeRunID, next: at.Frame, at: at.Frame,
		out: stream{name: event.Stdout, w: redact.NewWriter(set, at.Out), raw: at.Out.Pos, stored: c.StdoutBytes},
		err: stream{name: event.Stderr, w: redact.NewWriter(set, at.Err), raw: at.Err.Pos, stored: c.StderrBytes},
	}
}

// feed takes the next frame of the file. Bytes that were stored before are skipped; a gap is an error.
func (o *output) feed(f shim.Frame) error {
	offset := o.at
	o.at += shim.FrameHeaderSize + int64(len(f.Data))
	var s *stream
	switch f.Stream {
	case shim.Stdout:
		s = &o.out
	case shim.Stderr:
		s = &o.err
	case shim.Notice:
		return nil // what it says is in exit.json too
	default:
		return fmt.Errorf("a frame of the unknown stream %d", f.Stream)
	}
	end := f.Pos + int64(len(f.Data))
	if f.Pos > s.raw {
		return fmt.Errorf("%s goes on at byte %d, but byte %d is next", s.name, f.Pos, s.raw)
	}
	if end <= s.raw {
		return nil
	}
	stored := s.w.Write(f.Data[s.raw-f.Pos:])
	s.raw = end
	s.held = append(s.held, heldFrame{offset, end})
	s.release()
	o.add(s, stored)
	return nil
}

// release forgets the frames that the writer has released.
func (s *stream) release() {
	at := s.w.Position().Pos
	n := 0
	for n < len(s.held) && s.held[n].rawEnd <= at {
		n++
	}
	s.held = s.held[n:]
}

// end releases what was held back: the streams have ended.
func (o *output) end() {
	for _, s := range []*stream{&o.out, &o.err} {
		stored := s.w.Close()
		s.release()
		o.add(s, stored)
	}
}

// add appends bytes to the records, joining them to the last chunk where that is of the same stream.
func (o *output) add(s *stream, b []byte) {
	for len(b) > 0 {
		last := len(o.records) - 1
		if last < 0 || o.records[last].Stream != s.name || len(o.records[last].Chunk) == event.MaxChunk {
			o.records = append(o.records, journal.Record{Type: event.Log, NodeRunID: o.id, Stream: s.name, Offset: s.stored})
			last++
		}
		chunk := &o.records[last].Chunk
		n := min(len(b), event.MaxChunk-len(*chunk))
		*chunk = append(*chunk, b[:n]...)
		s.stored += int64(n)
		b = b[n:]
	}
}

// take returns the records made since the last call.
func (o *output) take() []journal.Record {
	records := o.records
	o.records = nil
	return records
}

// takeMasks returns what the output announced since the last call. The cursor has passed it.
func (o *output) takeMasks() []redact.Value {
	return append(o.out.w.TakeMasks(), o.err.w.TakeMasks()...)
}

// cursor is where to go on once all records taken so far are stored.
func (o *output) cursor() journal.Cursor {
	frame := o.at
	for _, s := range []*stream{&o.out, &o.err} {
		if len(s.held) > 0 {
			frame = min(frame, s.held[0].offset)
		}
	}
	return journal.Cursor{
		NodeRunID:   o.id,
		Position:    journal.Position{Frame: frame, Out: o.out.w.Position(), Err: o.err.w.Position()},
		StdoutBytes: o.out.stored, StderrBytes: o.err.stored,
	}
}
