package httpapi

import (
	"github.com/labstack/echo/v4"

	"foundry/internal/errs"
	"foundry/internal/httpapi/openapi"
)

// streamSummaries answers GET /events.
func (s *Server) streamSummaries(echo.Context) error {
	return errs.E(errs.Unavailable, "This server has no live streams.")
}

// streamExecution answers GET /executions/{execution}/events for text/event-stream.
func (s *Server) streamExecution(echo.Context, openapi.ListExecutionEventsRequestObject) error {
	return errs.E(errs.Unavailable, "This server has no live streams.")
}

// followLogs answers GET /executions/{execution}/logs with follow=true.
func (s *Server) followLogs(echo.Context, openapi.GetExecutionLogsRequestObject) error {
	return errs.E(errs.Unavailable, "This server has no live streams.")
}
