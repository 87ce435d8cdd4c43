package httpapi

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/labstack/echo/v4"

	"foundry/internal/errs"
	"foundry/internal/httpapi/openapi"
)

// draining refuses what comes to a server that leaves.
const draining errs.Code = "draining"

// noticeTime is how long a server that leaves still accepts connections, and a quarter of the drain timeout if that is less. In it
// whoever looks at /readyz learns of the end before anybody's connection is refused.
const noticeTime = time.Second

// A Drained is how a server has ended.
type Drained struct {
	Began    time.Time // when Run's context had ended; zero if it has not
	Requests int       // in flight then, streams included
	Refused  int       // changes that were asked for afterwards
	Streams  int       // streams and waits that were told to go on elsewhere
	Cut      int       // requests that were not answered in time
	// Notice is the time in which connections were still accepted, Finish what the requests in flight took after it.
	Notice, Finish time.Duration
}

// leaving is what a server knows of its end. Safe for concurrent use.
//
//	serving ──Run's context ends──▶ notice ──at most 1 s──▶ finishing ──nothing in flight, or the drain timeout──▶ ended
//
//	            connections   /readyz   changes       reads      streams
//	serving     accepted      200       answered      answered   go on
//	notice      accepted      503       503 draining  answered   go on
//	finishing   refused       503       503 draining  answered   end, with the hint to come back at once
//
// What was in flight before is answered in every state. Streams go on during the notice: whom they sent away then could come back
// to the same server. A process whose /readyz nobody has ever asked for has nobody to give notice to, and gives none.
type leaving struct {
	on       atomic.Bool
	watched  atomic.Bool // somebody has asked for /readyz
	inFlight atomic.Int64
	refused  atomic.Int64
}

// depart counts requests, makes each the last of its connection once the server leaves, and then refuses those that would
// change something.
func (s *Server) depart(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		s.leaving.inFlight.Add(1)
		defer s.leaving.inFlight.Add(-1)
		c.Response().Before(func() {
			if s.leaving.on.Load() {
				c.Response().Header().Set(echo.HeaderConnection, "close")
			}
		})
		if s.leaving.on.Load() && changes(c.Request().Method) {
			s.leaving.refused.Add(1)
			return errDraining()
		}
		return next(c)
	}
}

func errDraining() *errs.Error {
	return errs.E(draining, "This server is leaving; ask again, and another one answers.")
}

// changes reports whether requests with the method are there to change something.
func changes(method string) bool {
	switch method {
	case http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete:
		return true
	}
	return false
}

// unreadiness is the answer of a server that leaves to GET /readyz.
func unreadiness() openapi.Readiness {
	return openapi.Readiness{Checks: []openapi.ReadinessCheck{{Name: "drain", Detail: "The control plane is leaving."}}}
}

// Drained tells how the server has ended. Call it when Run has returned.
func (s *Server) Drained() Drained { return s.drained }

// drain ends a server whose context has ended, and returns when nothing is in flight or the drain timeout has passed.
func (s *Server) drain(ctx context.Context, server *http.Server) error {
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.config.DrainTimeout)
	defer cancel()
	s.leaving.on.Store(true)
	d := Drained{Began: time.Now(), Requests: int(s.leaving.inFlight.Load())}
	if s.leaving.watched.Load() {
		<-time.After(min(noticeTime, s.config.DrainTimeout/4))
	}
	noticed := time.Now()
	streams := make(chan int, 1)
	// Behind the closing of the listener: whom a stream sends away cannot come back here.
	server.RegisterOnShutdown(func() { streams <- s.hub.End() })
	err := server.Shutdown(limited)
	if err != nil {
		d.Cut = int(s.leaving.inFlight.Load())
		s.log.Warn().Err(err).Int("requests", d.Cut).Msg("requests did not end in time and are cut")
		err = server.Close()
	}
	d.Streams, d.Refused = <-streams, int(s.leaving.refused.Load())
	d.Notice, d.Finish = noticed.Sub(d.Began), time.Since(noticed)
	s.drained = d
	return err
}
