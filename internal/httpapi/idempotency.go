package httpapi

import (
	"bytes"
	"context"
	"errors"
	"net/http"

	"github.com/labstack/echo/v4"

	"foundry/internal/errs"
	"foundry/internal/httpapi/openapi"
	"foundry/internal/idempotency"
)

const (
	headerReplayed = "Idempotency-Replayed"
)

// replay sends the first answer again for a request that was carried out before.
func (s *Server) replay(next openapi.StrictHandlerFunc, _ string) openapi.StrictHandlerFunc {
	return func(c echo.Context, request any) (any, error) {
		response, err := next(c, request)
		again, ok := errors.AsType[*idempotency.ReplayError](err)
		if !ok {
			return response, err
		}
		header := c.Response().Header()
		for name, value := range again.Answer.Header {
			header.Set(name, value)
		}
		header.Set(headerReplayed, "true")
		c.Response().WriteHeader(again.Answer.Status)
		if _, err := c.Response().Write(again.Answer.Body); err != nil {
			return nil, errors.Join(errClientGone, err)
		}
		return nil, nil
	}
}

// once returns the guard of a request with an Idempotency-Key, or nil for one without. It returns *idempotency.ReplayError for a
// request that was carried out before, so that nothing is checked again that may have changed since. route names
// what is called, said is all that the request says, and answer writes the answer to its effect.
func once[T any](ctx context.Context, s *Server, key *string, route string, said any, answer func(T, http.ResponseWriter) error) (*idempotency.Guard[T], error) {
	if key == nil {
		return nil, nil //nolint:nilnil // no guard is a guard: it lets everything through
	}
	if !saneKey(*key) {
		return nil, errs.E(errs.Invalid, "The header Idempotency-Key has 1 to %d printable ASCII characters.", idempotency.MaxKey)
	}
	hash, err := idempotency.HashOf(said)
	if err != nil {
		return nil, err
	}
	p := principal(ctx)
	request := idempotency.Request{OrganizationID: p.OrganizationID, PrincipalID: p.ID(), Route: route, Key: *key, Hash: hash}
	if err := s.answers.Check(ctx, request); err != nil {
		return nil, err
	}
	return &idempotency.Guard[T]{Request: request, Answer: func(effect T) (idempotency.Answer, error) {
		r := &recorder{header: http.Header{}}
		err := answer(effect, r)
		return r.answer(), err
	}}, nil
}

func saneKey(key string) bool {
	for _, c := range []byte(key) {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return len(key) >= 1 && len(key) <= idempotency.MaxKey
}

// recorder keeps an answer as it would be sent.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(status int)      { r.status = status }
func (r *recorder) Write(p []byte) (int, error) { return r.body.Write(p) }

func (r *recorder) answer() idempotency.Answer {
	a := idempotency.Answer{Status: r.status, Header: map[string]string{}, Body: r.body.Bytes()}
	for name := range r.header {
		a.Header[name] = r.header.Get(name)
	}
	return a
}
