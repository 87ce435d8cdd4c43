package httpapi

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/rs/zerolog"

	"foundry/internal/errs"
)

// recheckEvery is how often the credentials of what stays open are looked at when nothing says that any were revoked.
const recheckEvery = time.Minute

// openRequests are requests that outlive their authentication: streams. They end once their credentials count no longer.
type openRequests struct {
	mu  sync.Mutex
	all map[*openRequest]struct{}
}

type openRequest struct {
	request     *http.Request // as it came
	credentials string
	end         context.CancelCauseFunc
}

// whileAuthenticated runs f, while which the request's context ends when its credentials are revoked.
func (s *Server) whileAuthenticated(c echo.Context, f func() error) error {
	request := c.Request()
	ctx, end := context.WithCancelCause(request.Context())
	defer end(nil)
	c.SetRequest(request.WithContext(ctx))
	one := &openRequest{request, credentialsOf(request), end}
	s.open.add(one)
	defer s.open.remove(one)
	return f()
}

func (o *openRequests) add(one *openRequest) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all[one] = struct{}{}
}

func (o *openRequests) remove(one *openRequest) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.all, one)
}

// credentialsOf tells requests of one principal from those of others.
func credentialsOf(r *http.Request) string {
	if header := r.Header.Get(echo.HeaderAuthorization); header != "" {
		return header
	}
	if cookie, err := r.Cookie(sessionCookie); err == nil {
		return cookie.Value
	}
	return ""
}

// watchCredentials ends open requests whose credentials were revoked, until ctx ends.
func (s *Server) watchCredentials(ctx context.Context) {
	ticker := time.NewTicker(recheckEvery)
	defer ticker.Stop()
	for {
		revoked := s.tokens.Revoked() // before the look: what is revoked during it is seen by the next
		s.recheckOnce(ctx)
		select {
		case <-ctx.Done():
			return
		case <-revoked:
		case <-ticker.C:
		}
	}
}

// recheckOnce looks each credential up once, however many requests came with it.
func (s *Server) recheckOnce(ctx context.Context) {
	s.open.mu.Lock()
	by := make(map[string][]*openRequest)
	for one := range s.open.all {
		by[one.credentials] = append(by[one.credentials], one)
	}
	s.open.mu.Unlock()
	for _, requests := range by {
		_, err := s.presented(requests[0].request.WithContext(ctx))
		if !errs.Is(err, errs.Unauthorized) { // who cannot be asked about now is asked about again
			continue
		}
		for _, one := range requests {
			zerolog.Ctx(one.request.Context()).Info().Msg("the credentials of an open request were revoked")
			one.end(err)
		}
	}
}
