package httpapi

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/google/uuid"

	"foundry/internal/stream"
)

// awaitEnd returns when the execution has ended, the time is over or the server stops: none of them is an error. It
// sleeps until the hub tells; nothing polls.
func (s *Server) awaitEnd(ctx context.Context, id uuid.UUID, limit time.Duration) error {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	position := int64(0)
	for {
		end, err := s.watchToEnd(limited, id, &position)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case end || limited.Err() != nil || errors.Is(err, stream.ErrStopped):
			return nil
		case !errors.Is(err, stream.ErrLagged): // that one goes on from its position
			return err
		}
	}
}

// watchToEnd reports whether it saw the end.
func (s *Server) watchToEnd(ctx context.Context, id uuid.UUID, position *int64) (end bool, err error) {
	watch, err := s.hub.Watch(ctx, id, *position, stream.Logs{None: true})
	if err != nil {
		return false, err
	}
	defer watch.Close()
	for {
		_, changed, err := watch.Poll(ctx)
		*position = watch.Position()
		if errors.Is(err, io.EOF) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		if changed == nil {
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
}
