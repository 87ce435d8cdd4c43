package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/google/uuid"
)

// Figures of the stream scenario.
const (
	figSSE50       = "SSE: commit to reader, 1,000 streams, 100 events/s to each, p50"
	figSSE99       = "SSE: commit to reader, 1,000 streams, 100 events/s to each, p99"
	figServeMemory = "resident memory of serve with 1,000 streams"

	streams          = 1000
	streamsPerToken  = 100 // as many as a principal may open
	eventsPerSecond  = 100
	subscribeArg     = "subscribe"
	publishStatement = `WITH e AS (
    UPDATE executions SET last_seq = last_seq + 1 WHERE id = $1 RETURNING id, last_seq
), v AS (
    INSERT INTO execution_events (day, execution_id, seq, type, data)
    SELECT execution_day(id), id, last_seq, 'warning', jsonb_build_object('message', 'A line of the length that events have when they tell a person something.', 'sent', $2::bigint) FROM e
)
SELECT pg_notify('foundry_events', $3)`
)

// subscription is what the process of subscribers is told.
type subscription struct {
	Address string
	Path    string
	Tokens  []string
	Streams int
}

// delivery is what it answers, in milliseconds from just before a commit.
type delivery struct {
	P50, P99, P999 float64
	Events         int
	Ended          int // streams that ended before they should have
}

// sse commits events to one execution that many streams watch, as a worker does, and has another process read them.
func sse(ctx context.Context, b *bencher) error {
	in, err := b.install(ctx, "sse")
	if err != nil {
		return err
	}
	defer in.close(ctx)
	if err := in.push(ctx, "noop", noopSource); err != nil {
		return err
	}
	id, err := in.enqueue(ctx, "noop", nil)
	if err != nil {
		return err
	}
	count := b.scale(streams, 100)
	s := subscription{Address: in.address, Path: "/executions/" + id + "/events", Streams: count}
	for i := range (count + streamsPerToken - 1) / streamsPerToken {
		token, err := in.command(ctx, "admin", "token", "--name", fmt.Sprintf("reader-%d", i))
		if err != nil {
			return err
		}
		s.Tokens = append(s.Tokens, token)
	}
	b.report.add("resident memory of serve, idle", "MB", float64(residentOf(in.serve.pid()))/1e6)
	return b.repeat(func(run int) error { return in.streamRun(ctx, s, uuid.MustParse(id), run) })
}

func (in *installation) streamRun(ctx context.Context, s subscription, id uuid.UUID, run int) error {
	var head int64
	if err := in.pool.QueryRow(ctx, "SELECT last_seq FROM executions WHERE id = $1", id).Scan(&head); err != nil {
		return err
	}
	s.Path += fmt.Sprintf("?after=%d", head) // nothing of an earlier run
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self, subscribeArg, string(text))
	cmd.Stderr = os.Stderr
	input, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	read := bufio.NewReader(output)
	if line, err := read.ReadString('\n'); err != nil {
		return errors.Join(fmt.Errorf("the subscribers said %q", line), err, cmd.Wait())
	}
	stop := func() {}
	if run == 0 {
		stop = in.profile(ctx, "sse")
	}
	events := in.b.scale(800, 50)
	serve, _ := in.cpu()
	if err := in.publish(ctx, id, events); err != nil {
		return err
	}
	serveAfter, _ := in.cpu()
	stop()
	in.b.report.add(figServeMemory, "MB", float64(residentOf(in.serve.pid()))/1e6)
	if err := input.Close(); err != nil {
		return err
	}
	answer, err := io.ReadAll(read)
	if err := errors.Join(err, cmd.Wait()); err != nil {
		return err
	}
	var d delivery
	if err := json.Unmarshal(answer, &d); err != nil {
		return fmt.Errorf("the subscribers said %.200q: %w", answer, err)
	}
	if d.Ended > 0 || d.Events != events*s.Streams {
		in.b.report.note("SSE: %d of %d events arrived, and %d streams ended early", d.Events, events*s.Streams, d.Ended)
	}
	in.b.report.add(figSSE50, "ms", d.P50)
	in.b.report.add(figSSE99, "ms", d.P99)
	in.b.report.add("SSE: commit to reader, p99.9", "ms", d.P999)
	in.b.report.add("SSE: CPU of serve, per delivered event", "µs", float64((serveAfter-serve).Microseconds())/float64(events*s.Streams))
	return nil
}

// publish commits events at their rate, and then waits for the last to arrive.
func (in *installation) publish(ctx context.Context, id uuid.UUID, n int) error {
	tick := time.NewTicker(time.Second / eventsPerSecond)
	defer tick.Stop()
	payload := eventsPayload(id)
	for range n {
		<-tick.C
		if _, err := in.pool.Exec(ctx, publishStatement, id, time.Now().UnixNano(), payload); err != nil {
			return err
		}
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Second):
		return nil
	}
}
