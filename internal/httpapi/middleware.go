package httpapi

import (
	"context"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"runtime/debug"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"
	"github.com/rs/zerolog"

	"foundry/internal/errs"
)

type requestIDKey struct{}

// requestID returns the id of the request that ctx belongs to, or "".
func requestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

// identify gives the request an id and a logger that carries it, and sets the headers that every answer has.
func (s *Server) identify(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		id := c.Request().Header.Get(echo.HeaderXRequestID)
		if !saneRequestID(id) {
			id = uuid.Must(uuid.NewV7()).String()
		}
		log := s.log.With().Str("request_id", id).Logger()
		ctx := log.WithContext(context.WithValue(c.Request().Context(), requestIDKey{}, id))
		c.SetRequest(c.Request().WithContext(ctx))
		header := c.Response().Header()
		header.Set(echo.HeaderXRequestID, id)
		header.Set(echo.HeaderXContentTypeOptions, "nosniff")
		header.Set(echo.HeaderReferrerPolicy, "no-referrer")
		return next(c)
	}
}

// saneRequestID accepts what proxies make and refuses what could forge a log or flood it.
func saneRequestID(id string) bool {
	if len(id) < 1 || len(id) > 64 {
		return false
	}
	for _, r := range id {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if !letter && !strings.ContainsRune("-_.:", r) {
			return false
		}
	}
	return true
}

// observe writes the access log and measures. It never sees a body.
func (s *Server) observe(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		start := time.Now()
		defer func() { // also when the answer breaks off by a panic
			took := time.Since(start)
			s.metrics.observe(c, took)
			request, response := c.Request(), c.Response()
			level := zerolog.InfoLevel
			if !strings.HasPrefix(c.Path(), apiPrefix) {
				level = zerolog.DebugLevel // probes and scrapes
			}
			zerolog.Ctx(request.Context()).WithLevel(level).Str("method", request.Method).Str("path", truncated(request.URL.Path, 300)).
				Str("route", c.Path()).Int("status", response.Status).Int64("bytes", response.Size).
				Dur("duration_ms", took).Msg("request")
		}()
		return next(c)
	}
}

// recoverPanics turns a panic into an error with its stack. http.ErrAbortHandler is meant for net/http.
func recoverPanics(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) (err error) {
		defer func() {
			if v := recover(); v != nil {
				if v == http.ErrAbortHandler { //nolint:errorlint // a marker that is never wrapped
					panic(v)
				}
				err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
			}
		}()
		return next(c)
	}
}

// boundBody bounds the time in which a body must come. http.Server.ReadTimeout is not used: it would also end
// every stream, whose connection is read all the while to notice that the client has gone.
func (s *Server) boundBody(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if c.Request().ContentLength == 0 {
			return next(c)
		}
		connection := http.NewResponseController(c.Response())
		if err := connection.SetReadDeadline(time.Now().Add(s.config.BodyTimeout)); err != nil {
			return fmt.Errorf("bounding the time for a body: %w", err)
		}
		return next(c)
	}
}

// crossOrigin refuses writes that a browser makes for a page of another origin: it would send the session's cookie along. The
// public URL is an origin of ours, should a proxy give us another name.
func crossOrigin(publicURL string) echo.MiddlewareFunc {
	protection := http.NewCrossOriginProtection()
	if address, err := url.Parse(publicURL); err == nil && address.Host != "" {
		_ = protection.AddTrustedOrigin(address.Scheme + "://" + address.Host) // fails for what is no origin, and this is one
	}
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			if err := protection.Check(c.Request()); err != nil {
				return errs.E(errs.Forbidden, "A page of another origin may not do this.").Because(err)
			}
			return next(c)
		}
	}
}

// accepts reports whether the Accept header names the media type. A wildcard does not.
func accepts(r *http.Request, mediaType string) bool {
	for _, value := range r.Header.Values(echo.HeaderAccept) {
		for part := range strings.SplitSeq(value, ",") {
			got, params, err := mime.ParseMediaType(part)
			if err == nil && got == mediaType && !zeroQuality.MatchString(params["q"]) {
				return true
			}
		}
	}
	return false
}

var zeroQuality = regexp.MustCompile(`^0(\.0*)?$`)

func truncated(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return s[:limit] + "…"
}

// valueOr dereferences an optional parameter.
func valueOr[T any](p *T, absent T) T {
	if p == nil {
		return absent
	}
	return *p
}
