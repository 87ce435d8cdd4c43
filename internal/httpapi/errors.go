package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/labstack/echo/v4"
	"github.com/rs/zerolog"

	"foundry/internal/auth"
	"foundry/internal/errs"
	"foundry/internal/httpapi/openapi"
	"foundry/internal/postgres"
	"foundry/internal/queue"
	"foundry/internal/workflow"
)

// Codes that only HTTP knows.
const (
	methodNotAllowed     errs.Code = "method_not_allowed"
	unsupportedMediaType errs.Code = "unsupported_media_type"
	rangeNotSatisfiable  errs.Code = "range_not_satisfiable"
	workflowInvalid      errs.Code = "workflow_invalid"
)

// statusClientGone is what the access log shows when there was nobody left to answer (as nginx does).
const statusClientGone = 499

// retryWhenFull is after how many seconds an execution that a full queue has refused may be tried again.
const retryWhenFull = 5

// errClientGone marks a write that failed: there is nobody left to tell.
var errClientGone = errors.New("the client has gone")

// answerErrors turns what a handler returns into the answer, so that the access log sees its status.
func (s *Server) answerErrors(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if err := next(c); err != nil {
			s.fail(c, err)
		}
		return nil
	}
}

// fail answers with a problem: the one place where errors become HTTP. It logs and counts them.
func (s *Server) fail(c echo.Context, err error) {
	ctx := c.Request().Context()
	log := zerolog.Ctx(ctx)
	if errors.Is(err, errClientGone) || ctx.Err() != nil && errors.Is(err, context.Canceled) {
		if !c.Response().Committed {
			c.Response().Status = statusClientGone
		}
		log.Debug().Err(err).Msg("the client has gone")
		return
	}
	err = outage(c.Request().Method, err)
	problem, status := problemOf(err)
	s.metrics.problems.WithLabelValues(problem.Code).Inc()
	if status >= http.StatusInternalServerError && problem.Code != string(draining) {
		log.Error().Err(err).Str("code", problem.Code).Msg("request failed")
	}
	if c.Response().Committed {
		// Part of an answer is out. Cutting the connection is the only way to say that it is not whole.
		log.Warn().Err(err).Msg("the answer broke off")
		panic(http.ErrAbortHandler)
	}
	problem.RequestID = requestID(ctx)
	writeProblem(c, problem, status, err)
}

// outage puts a sentence before an error that says that the database is away; others it returns as they are.
func outage(method string, err error) error {
	if e, ok := errors.AsType[*errs.Error](err); ok && e.Code != errs.Internal || !postgres.IsUnavailable(err) {
		return err
	}
	if method == http.MethodGet || method == http.MethodHead || postgres.NothingSent(err) {
		return errs.E(errs.Unavailable, "The database cannot be reached.").Because(err)
	}
	return errs.E(errs.Unknown, "The database was lost before it answered: what was asked may have been done or not.").Because(err)
}

func writeProblem(c echo.Context, problem openapi.Problem, status int, cause error) {
	header := c.Response().Header()
	switch status {
	case http.StatusUnauthorized:
		header.Set("WWW-Authenticate", `Bearer realm="foundry"`)
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		if errs.Is(cause, errs.Unknown) {
			break // it is not for a program to do again what may have been done
		}
		after := 1
		if limited, ok := errors.AsType[*rateError](cause); ok {
			after = limited.retryAfter()
		}
		if errs.Is(cause, queue.Full) {
			after = retryWhenFull
		}
		if wait, ok := errors.AsType[*auth.WaitError](cause); ok {
			after = int(wait.Wait.Seconds())
		}
		header.Set("Retry-After", strconv.Itoa(after))
	case http.StatusRequestedRangeNotSatisfiable:
		if beyond, ok := errors.AsType[*rangeError](cause); ok {
			header.Set("Content-Range", fmt.Sprintf("bytes */%d", beyond.size))
		}
	}
	header.Set(echo.HeaderContentType, "application/problem+json")
	header.Set(echo.HeaderCacheControl, "no-store")
	c.Response().WriteHeader(status)
	if c.Request().Method != http.MethodHead {
		_ = json.NewEncoder(c.Response()).Encode(problem) // the client has gone, or it has not: nothing is left to do
	}
}

// problemOf says what a person may know about an error.
func problemOf(err error) (openapi.Problem, int) {
	if faults, ok := errors.AsType[*workflowError](err); ok {
		return faults.problem(), http.StatusUnprocessableEntity
	}
	e := errorOf(err)
	status := statusOf(e.Code)
	problem := openapi.Problem{
		Type: "about:blank", Title: http.StatusText(status), Status: status, Code: string(e.Code), Detail: e.Message,
	}
	for _, d := range e.Details {
		problem.Errors = append(problem.Errors, openapi.ProblemError{Pointer: d.Pointer, Detail: d.Detail})
	}
	return problem, status
}

// errorOf finds the error that people may read, or makes one.
func errorOf(err error) *errs.Error {
	internal := errs.E(errs.Internal, "Internal error. The request id leads to its cause in the logs.")
	if e, ok := errors.AsType[*errs.Error](err); ok {
		if e.Code == errs.Internal {
			return internal
		}
		return e
	}
	if e, ok := errors.AsType[*rangeError](err); ok {
		return errs.E(rangeNotSatisfiable, "%s", e.Error())
	}
	if e, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return tooLarge(e.Limit)
	}
	if e, ok := errors.AsType[*echo.HTTPError](err); ok {
		return routingError(e.Code)
	}
	return internal
}

// routingError replaces echo's errors, whose texts quote Go.
func routingError(status int) *errs.Error {
	switch status {
	case http.StatusNotFound:
		return errs.E(errs.NotFound, "There is nothing at this address.")
	case http.StatusMethodNotAllowed:
		return errs.E(methodNotAllowed, "This address does not answer this method; the Allow header lists those that it does.")
	case http.StatusUnsupportedMediaType:
		return errs.E(unsupportedMediaType, "The body's content type is not one that this address reads.")
	case http.StatusRequestEntityTooLarge:
		return errs.E(errs.TooLarge, "The body is too large.")
	}
	if status >= http.StatusInternalServerError {
		return errs.E(errs.Internal, "Internal error.")
	}
	return errs.E(errs.Invalid, "The request is malformed.")
}

func statusOf(code errs.Code) int {
	switch code {
	case errs.Invalid:
		return http.StatusBadRequest
	case errs.Unauthorized:
		return http.StatusUnauthorized
	case errs.Forbidden:
		return http.StatusForbidden
	case errs.NotFound:
		return http.StatusNotFound
	case methodNotAllowed:
		return http.StatusMethodNotAllowed
	case errs.Conflict, errs.Finished, errs.StaleClaim, queue.AlreadyDecided, queue.NotWaiting, queue.CancelRequested,
		queue.NotFinished, queue.SandboxNotAvailable, queue.GroupConflict, queue.GroupHeldByParent, sandboxInUse:
		return http.StatusConflict
	case errs.Expired:
		return http.StatusGone
	case preconditionFailed:
		return http.StatusPreconditionFailed
	case preconditionRequired:
		return http.StatusPreconditionRequired
	case errs.TooLarge:
		return http.StatusRequestEntityTooLarge
	case unsupportedMediaType:
		return http.StatusUnsupportedMediaType
	case rangeNotSatisfiable:
		return http.StatusRequestedRangeNotSatisfiable
	case errs.TooMany, queue.Full:
		return http.StatusTooManyRequests
	case errs.Unavailable, errs.Unknown, draining: // a connection was lost, or the server leaves
		return http.StatusServiceUnavailable
	case errs.Internal:
		return http.StatusInternalServerError
	default: // errs.Validation, and rules that packages have codes of their own for
		return http.StatusUnprocessableEntity
	}
}

// workflowError refuses a workflow text.
type workflowError struct{ diagnostics workflow.Diagnostics }

func (e *workflowError) Error() string {
	return "the workflow text is invalid: " + e.diagnostics.Error()
}

func (e *workflowError) problem() openapi.Problem {
	status := http.StatusUnprocessableEntity
	count := 0
	for _, d := range e.diagnostics {
		if d.Severity == workflow.SeverityError {
			count++
		}
	}
	detail := "The workflow text has a fault."
	if count > 1 {
		detail = fmt.Sprintf("The workflow text has %d faults.", count)
	}
	return openapi.Problem{
		Type: "about:blank", Title: http.StatusText(status), Status: status, Code: string(workflowInvalid), Detail: detail,
		Diagnostics: diagnosticsJSON(e.diagnostics),
	}
}

func tooLarge(limit int64) *errs.Error {
	return errs.E(errs.TooLarge, "The body is larger than %d MiB.", limit>>20)
}
