package devstack

import (
	"time"

	"github.com/rs/zerolog"

	"foundry/internal/httpapi"
)

// departure is how a control plane leaves, for one record in its log. Its parts end in this order:
//
//	signal ─┬─▶ loops: the advisory lock is free, and another control plane may lead
//	        └─▶ server: notice, then requests in flight (package httpapi) ──▶ hub, notifier, listener ──▶ pool
type departure struct {
	server   httpapi.Drained
	unlocked time.Time // when the loops had ended
	answered time.Time // when they and the server had
}

// log writes the record; nothing for a control plane that came to no orderly end. closing is when what uses the pool had ended.
func (d *departure) log(log zerolog.Logger, cause error, closing time.Time) {
	began := d.server.Began
	if began.IsZero() {
		return
	}
	ms := func(from, to time.Time) int64 { return max(0, to.Sub(from).Milliseconds()) }
	now := time.Now()
	log.Info().AnErr("cause", cause).
		Int("requests", d.server.Requests).Int("refused", d.server.Refused).Int("streams", d.server.Streams).Int("cut", d.server.Cut).
		Int64("unlock_ms", ms(began, d.unlocked)).Int64("notice_ms", d.server.Notice.Milliseconds()).
		Int64("finish_ms", d.server.Finish.Milliseconds()).Int64("services_ms", ms(d.answered, closing)).
		Int64("pool_ms", ms(closing, now)).Int64("total_ms", ms(began, now)).
		Msg("control plane has left")
}
