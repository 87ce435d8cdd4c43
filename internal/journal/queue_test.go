package journal_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"foundry/internal/errs"
	"foundry/internal/execution"
	"foundry/internal/journal"
)

// TestQueueIsBounded fills a journal that does not run.
func TestQueueIsBounded(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		chunk       int
		least, most int
	}{
		"by entries": {chunk: 1, least: 9_900, most: 10_000},
		"by bytes":   {chunk: 1 << 20, least: 14, most: 16},
		// More than fits at all still goes through, alone.
		"by one entry": {chunk: 20 << 20, least: 1, most: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				j := journal.New(journal.Config{Logger: zerolog.Nop()})
				bytes := make([]byte, c.chunk)
				ctx, cancel := context.WithCancelCause(t.Context())
				accepted := 0
				var err error
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					for err == nil {
						err = j.Submit(ctx, &journal.Entry{Records: []journal.Record{{Chunk: bytes}}}, nil)
						if err == nil {
							accepted++
						}
					}
				}()
				synctest.Wait() // until it blocks
				if err != nil || accepted < c.least || accepted > c.most {
					t.Errorf("%d entries of %d bytes were accepted, want %d to %d; %v", accepted, c.chunk, c.least, c.most, err)
				}
				cause := errors.New("somebody canceled")
				cancel(cause)
				<-ended
				if !errors.Is(err, cause) {
					t.Errorf("Submit ended with %v", err)
				}
			})
		})
	}
}

// TestRoomIsGivenBack submits more than twice what the queue holds.
func TestRoomIsGivenBack(t *testing.T) {
	t.Parallel()
	b := setup(t)
	j := b.start()
	const entries = 40 // of 1 MiB
	gone, answers, megabyte := execution.NewID(), make(chan error, entries), make([]byte, 1<<20)
	release := b.hold(j)
	submitted := make(chan struct{})
	go func() {
		defer close(submitted)
		for range entries {
			e := &journal.Entry{ExecutionID: gone, Claim: 1, Records: []journal.Record{{Chunk: megabyte}}}
			if err := j.Submit(t.Context(), e, func(_ journal.Receipt, err error) { answers <- err }); err != nil {
				t.Error(err)
				answers <- err
			}
		}
	}()
	release()
	for range entries {
		wantCode(t, <-answers, errs.StaleClaim)
	}
	<-submitted
}

func TestRunEndsWithWhatIsQueued(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	b.flush = time.Hour
	j := b.start()
	ids := b.claimed(2)
	unlock := b.lock(ids[0])
	defer unlock()
	inFlight := j.submit(t, warning(ids[0], 1))
	b.awaitBlocked()
	queued := []<-chan answer{j.submit(t, warning(ids[1], 1)), j.submit(t, warning(ids[0], 1))}
	j.end()
	await(t, "the journal to refuse", func() bool {
		err := j.Submit(t.Context(), warning(ids[1], 1), func(journal.Receipt, error) {})
		return errs.Is(err, errs.Unavailable)
	})
	unlock()
	j.stop()
	for _, a := range append(queued, inFlight) {
		if a := <-a; a.err != nil {
			t.Errorf("an entry from before the end: %v", a.err)
		}
	}
}

// TestRunEndsWithoutTheDatabase takes as long as the flush may.
func TestRunEndsWithoutTheDatabase(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	j := b.start()
	ids := b.claimed(2)
	unlock := b.lock(ids[0])
	defer unlock()
	answers := []<-chan answer{j.submit(t, warning(ids[0], 1))}
	b.awaitBlocked()
	answers = append(answers, j.submit(t, warning(ids[0], 1)), j.submit(t, warning(ids[1], 1)))
	j.stop()
	for _, a := range answers {
		wantCode(t, (<-a).err, errs.Unavailable)
	}
}

// TestCommitWithContext ends the context of a caller whose entry is in flight: the caller goes, the entry stays.
func TestCommitWithContext(t *testing.T) {
	t.Parallel()
	b := setup(t)
	defer b.check()
	j := b.start()
	id := b.claimed(1)[0]
	unlock := b.lock(id)
	defer unlock()
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("somebody canceled")
	left := make(chan error, 1)
	go func() {
		_, err := j.Commit(ctx, warning(id, 1))
		left <- err
	}()
	b.awaitBlocked()
	cancel(cause)
	if err := <-left; !errors.Is(err, cause) {
		t.Errorf("Commit ended with %v", err)
	}
	unlock()
	if r := j.commit(t, warning(id, 1)); r.LastSeq != 4 {
		t.Errorf("last_seq %d: the entry of the caller who left is lost", r.LastSeq)
	}
}
