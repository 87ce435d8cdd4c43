package httpapi

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/rs/zerolog"

	"foundry/internal/auth"
	"foundry/internal/errs"
	"foundry/internal/httpapi/openapi"
	"foundry/internal/workflow"
)

// partitionsAhead is how many days must have their partitions. Thirty are made at start and hourly, so below
// this they have not been made for weeks, and there is time to see to it.
const partitionsAhead = 3

// Check is one thing that must be well for the process to be ready. Run returns nil, or an error
// whose sentence is shown if it is one that people may read.
type Check struct {
	Name string
	Run  func(ctx context.Context) error
}

// health answers GET /healthz: the process is alive, whatever it waits for.
func health(c echo.Context) error {
	return c.String(http.StatusOK, "ok\n")
}

// ready answers GET /readyz.
func (s *Server) ready(c echo.Context) error {
	c.Response().Header().Set(echo.HeaderCacheControl, "no-store")
	s.leaving.watched.Store(true)
	if s.leaving.on.Load() {
		return c.JSON(http.StatusServiceUnavailable, unreadiness())
	}
	ctx, cancel := context.WithTimeout(c.Request().Context(), s.config.ProbeTimeout)
	defer cancel()
	checks := append([]Check{
		{Name: "database", Run: s.config.Pool.Ping},
		{Name: "partitions", Run: s.checkPartitions},
	}, s.config.Checks...)
	answer, status := openapi.Readiness{Ready: true}, http.StatusOK
	for _, check := range checks {
		detail := "Well."
		err := check.Run(ctx)
		if err != nil {
			answer.Ready, status = false, http.StatusServiceUnavailable
			detail = unwell(err, s.config.ProbeTimeout)
			zerolog.Ctx(ctx).Error().Err(err).Str("check", check.Name).Msg("not ready")
		}
		answer.Checks = append(answer.Checks, openapi.ReadinessCheck{Name: check.Name, Ok: err == nil, Detail: detail})
	}
	return c.JSON(status, answer)
}

// unwell says what a person may know of a check that failed, in the time that it had.
func unwell(err error, had time.Duration) string {
	if e, ok := errors.AsType[*errs.Error](outage(http.MethodGet, err)); ok && e.Code != errs.Internal {
		return e.Message
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Sprintf("There was no answer within %s.", had)
	}
	return "Not well; the logs say why."
}

func (s *Server) checkPartitions(ctx context.Context) error {
	days, err := s.events.PartitionsAhead(ctx)
	if err != nil {
		return err
	}
	if days < partitionsAhead {
		return errs.E(errs.Unavailable, "Partitions exist for the next %d days, and there must be %d.", days, partitionsAhead)
	}
	return nil
}

// workflowSchema answers GET /schema/workflow.json. Editors ask for it from pages of other origins.
func workflowSchema(c echo.Context) error {
	header := c.Response().Header()
	header.Set("Access-Control-Allow-Origin", "*")
	header.Set(echo.HeaderCacheControl, "public, max-age=3600")
	return c.Blob(http.StatusOK, "application/schema+json", workflow.Schema())
}

//go:embed page.html
var pageText string

// page answers GET /: what this is, for whoever opens it in a browser.
func (s *Server) page(c echo.Context) error {
	page, err := template.New("page").Parse(pageText)
	if err != nil {
		return fmt.Errorf("parsing the page: %w", err)
	}
	shown := struct {
		Version      string
		Person       string // empty: nobody is signed in
		Role         auth.Role
		Organization string
	}{Version: s.config.Version}
	if p, ok := s.signedIn(c); ok {
		shown.Person, shown.Role, shown.Organization = p.Name, p.Role, p.OrganizationName
	}
	pageHeaders(c)
	c.Response().WriteHeader(http.StatusOK)
	return page.Execute(c.Response(), shown)
}
