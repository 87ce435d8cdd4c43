package stream

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"foundry/internal/event"
)

// Entry is an event on its way to any number of streams, which share it. Safe for concurrent use.
type Entry struct {
	event.Event

	encode sync.Once
	frame  []byte
	err    error
}

// Frame returns the event as a server-sent event: id, event, data, and the empty line behind them. It
// is encoded once, when the first stream asks. Callers do not change it.
func (e *Entry) Frame() ([]byte, error) {
	e.encode.Do(func() { e.frame, e.err = frame(&e.Event) })
	return e.frame, e.err
}

// size is roughly the memory that the entry takes with its frame, in bytes.
func (e *Entry) size() int {
	return 256 + 2*(len(e.Data)+len(e.Chunk))
}

func entries(events []event.Event) []*Entry {
	list := make([]*Entry, len(events))
	for i := range events {
		list[i] = &Entry{Event: events[i]}
	}
	return list
}

// Object is an event as people read it over HTTP: in pages and in streams alike.
type Object struct {
	Seq     int64           `json:"seq"`
	Type    event.Type      `json:"type"`
	Time    time.Time       `json:"time"`
	Node    *string         `json:"node,omitempty"` // absent for events of the whole execution; so are the next two
	Index   *int            `json:"index,omitempty"`
	Attempt *int            `json:"attempt,omitempty"`
	Data    json.RawMessage `json:"data"`
}

// chunk is a log event's data: Text where the bytes are valid UTF-8, else Base64.
type chunk struct {
	Stream event.Stream `json:"stream"`
	Offset int64        `json:"offset"`
	Text   *string      `json:"text,omitempty"`
	Base64 []byte       `json:"base64,omitempty"`
}

// NewObject returns the event's public form.
func NewObject(e *event.Event) (Object, error) {
	o := Object{Seq: e.Seq, Type: e.Type, Time: e.Time.UTC(), Data: e.Data}
	if e.Node != "" {
		o.Node, o.Index, o.Attempt = &e.Node, &e.Index, &e.Attempt
	}
	if e.Type != event.Log {
		return o, nil
	}
	c := chunk{Stream: e.Stream, Offset: e.Offset}
	if utf8.Valid(e.Chunk) {
		text := string(e.Chunk)
		c.Text = &text
	} else {
		c.Base64 = e.Chunk
	}
	data, err := encodeJSON(c)
	if err != nil {
		return Object{}, fmt.Errorf("encoding log chunk %d: %w", e.Seq, err)
	}
	o.Data = data
	return o, nil
}

func frame(e *event.Event) ([]byte, error) {
	o, err := NewObject(e)
	if err != nil {
		return nil, err
	}
	data, err := encodeJSON(o)
	if err != nil {
		return nil, fmt.Errorf("encoding event %d: %w", e.Seq, err)
	}
	b := make([]byte, 0, len(data)+len(e.Type)+40)
	b = append(b, "id: "...)
	b = strconv.AppendInt(b, e.Seq, 10)
	return appendEvent(append(b, '\n'), string(e.Type), data), nil
}

// Message returns a server-sent event without an id. The data is JSON, hence one line.
func Message(name string, data []byte) []byte {
	return appendEvent(make([]byte, 0, len(name)+len(data)+20), name, data)
}

func appendEvent(b []byte, name string, data []byte) []byte {
	b = append(append(append(b, "event: "...), name...), "\ndata: "...)
	return append(append(b, data...), "\n\n"...)
}

// encodeJSON is json.Marshal that leaves <, > and & as they are: logs are full of them.
func encodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
