package httpapi

import (
	lru "container/list"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"
	"golang.org/x/time/rate"

	"foundry/internal/errs"
)

// Rate is how many requests of one kind a principal may make of one process.
type Rate struct {
	PerSecond float64
	Burst     int // after a pause
}

// limitedPrincipals bounds the memory of the limits. Whoever has been quiet the longest is forgotten first, and
// begins with a full burst again.
const limitedPrincipals = 4096

// limits counts the requests of each principal. Safe for concurrent use.
type limits struct {
	reads, writes Rate

	mu     sync.Mutex
	known  map[uuid.UUID]*lru.Element // of *spent
	recent *lru.List                  // the latest first
}

// spent is what one principal has left.
type spent struct {
	principal     uuid.UUID
	reads, writes *rate.Limiter
}

func newLimits(reads, writes Rate) *limits {
	return &limits{reads: reads, writes: writes, known: make(map[uuid.UUID]*lru.Element), recent: lru.New()}
}

// take counts a request. It returns how long to wait if the principal has had its share, else 0.
func (l *limits) take(principal uuid.UUID, write bool, now time.Time) time.Duration {
	limiter := l.limiter(principal, write)
	if limiter.AllowN(now, 1) {
		return 0
	}
	missing := 1 - limiter.TokensAt(now)
	return max(time.Millisecond, time.Duration(missing/float64(limiter.Limit())*float64(time.Second)))
}

func (l *limits) limiter(principal uuid.UUID, write bool) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	element := l.known[principal]
	if element == nil {
		element = l.recent.PushFront(&spent{
			principal: principal,
			reads:     rate.NewLimiter(rate.Limit(l.reads.PerSecond), l.reads.Burst),
			writes:    rate.NewLimiter(rate.Limit(l.writes.PerSecond), l.writes.Burst),
		})
		l.known[principal] = element
		if oldest := l.recent.Back(); len(l.known) > limitedPrincipals {
			delete(l.known, l.recent.Remove(oldest).(*spent).principal) //nolint:forcetypeassert // the list holds nothing else
		}
	}
	l.recent.MoveToFront(element)
	s := element.Value.(*spent) //nolint:forcetypeassert // the list holds nothing else
	if write {
		return s.writes
	}
	return s.reads
}

// limit refuses requests of a principal that has had its share. Those without one are for others to limit.
func (s *Server) limit(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		id := principal(c.Request().Context()).ID()
		if id == uuid.Nil {
			return next(c)
		}
		method := c.Request().Method
		write := method != http.MethodGet && method != http.MethodHead
		if wait := s.limits.take(id, write, time.Now()); wait > 0 {
			return &rateError{wait: wait, write: write, rate: s.limits.of(write)}
		}
		return next(c)
	}
}

func (l *limits) of(write bool) Rate {
	if write {
		return l.writes
	}
	return l.reads
}

// rateError refuses a request until some time has passed.
type rateError struct {
	wait  time.Duration
	write bool
	rate  Rate
}

func (e *rateError) Error() string {
	kind := "reading"
	if e.write {
		kind = "changing"
	}
	return fmt.Sprintf("At most %g %s requests a second are answered, after a burst of %d; try again later.", e.rate.PerSecond, kind, e.rate.Burst)
}

// Unwrap gives it the code that all back-pressure has.
func (e *rateError) Unwrap() error { return errs.E(errs.TooMany, "%s", e.Error()) }

// retryAfter is the header's value: whole seconds, rounded up.
func (e *rateError) retryAfter() int {
	return int((e.wait + time.Second - 1) / time.Second)
}
