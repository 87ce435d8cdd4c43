package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/labstack/echo/v4"

	"foundry/internal/errs"
)

// TestAnAbsentDatabaseIsAProblem: what may have been done is told apart from what was not.
func TestAnAbsentDatabaseIsAProblem(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, nobody := pgconn.Connect(t.Context(), "postgres://u:hunter2@/x?host="+t.TempDir())
	lost := fmt.Errorf("queuing: %w", io.ErrUnexpectedEOF)
	for _, c := range []struct {
		method, code string
		err          error
	}{
		{http.MethodGet, "unavailable", fmt.Errorf("reading: %w", nobody)},
		{http.MethodPost, "unavailable", fmt.Errorf("queuing: %w", nobody)},
		{http.MethodGet, "unavailable", lost},
		{http.MethodHead, "", lost}, // without a body
		{http.MethodPost, "unknown", lost},
		{http.MethodDelete, "unknown", &pgconn.PgError{Code: "57P01", Message: "terminating connection"}},
		{http.MethodGet, "unavailable", errs.E(errs.Internal, "Something broke.").Because(lost)},
	} {
		recorder := httptest.NewRecorder()
		request := httptest.NewRequestWithContext(t.Context(), c.method, "/", nil)
		handler := b.server.identify(b.server.answerErrors(func(echo.Context) error { return c.err }))
		if err := handler(echo.New().NewContext(request, recorder)); err != nil {
			t.Fatal(err)
		}
		a := answer{recorder.Code, recorder.Header(), recorder.Body.Bytes()}
		if a.status != http.StatusServiceUnavailable || (a.header.Get("Retry-After") != "") == (c.code == "unknown") {
			t.Errorf("%s: %d, Retry-After %q", c.method, a.status, a.header.Get("Retry-After"))
		}
		if c.code != "" {
			wantProblem(t, a, http.StatusServiceUnavailable, c.code)
			checkProblem(t, a)
		}
	}
	for err, want := range map[error]string{
		nobody: "The database cannot be reached.", context.DeadlineExceeded: "There was no answer within 3s.", errors.New("x"): "Not well; the logs say why.",
		errs.E(errs.Unavailable, "Too few."): "Too few.",
	} {
		if got := unwell(err, 3*time.Second); got != want {
			t.Errorf("/readyz says %q of %v", got, err)
		}
	}
}
