// Package httpapi is the control plane's HTTP server: it answers api/openapi.yaml.
//
// A request passes, from outside in: a request id, the access log and metrics, the turning of errors into
// problems (errors.go), recovery from panics, and the refusal of cross-origin writes. Under /api/v1 follow
// authentication (authn.go) and the check against the contract (validate.go). Handlers then decode, apply a rule, call
// a store and encode. They read rows, write a few rows or enqueue work, and nothing else.
package httpapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"foundry/internal/artifact"
	"foundry/internal/audit"
	"foundry/internal/auth"
	"foundry/internal/errs"
	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/httpapi/openapi"
	"foundry/internal/idempotency"
	"foundry/internal/queue"
	"foundry/internal/secret"
	"foundry/internal/stream"
	"foundry/internal/workflow"
)

const (
	apiPrefix = "/api/v1"

	headerTimeout = 10 * time.Second
	readTimeout   = time.Minute // 12 MiB at 200 KiB/s
	idleTimeout   = 2 * time.Minute
	headerBytes   = 64 << 10
	drainTimeout  = 10 * time.Second
	probeTimeout  = 3 * time.Second
)

// Config is what a server needs. Pool, Queue and Hub are required.
type Config struct {
	Pool     *pgxpool.Pool
	Queue    *queue.Store
	Hub      *stream.Hub // run by the caller until Run has returned, which ends its streams
	Accounts *auth.Store // told by the caller what others revoke; nil: one on the pool, which learns of it within seconds
	Log      zerolog.Logger
	Registry *prometheus.Registry // shown at /metrics; a new one by default
	Version  string               // of the program; default "dev"
	// Environment is the installation's name, which people are shown; default "production".
	Environment string
	// PublicURL is where people reach the server, without a slash at the end; empty: what their requests say.
	PublicURL string
	Checks    []Check // of /readyz, besides the database and its partitions
	// DrainTimeout is how long the server may take to end after Run's context has. Default 10 s.
	DrainTimeout time.Duration
	BodyTimeout  time.Duration   // for the client to send a body; default one minute
	ProbeTimeout time.Duration   // for what /readyz and /metrics ask, of the database too; default 3 s
	Keys         *secret.Keyring // nil: secrets cannot be set or revealed
	RevealOff    bool            // no value is ever answered
	// Reads and Writes are what a principal may ask of this process. Default 200 a second after a burst of 400, and 50 after 200.
	Reads, Writes Rate
}

// Server answers HTTP. It belongs to one process and may be asked by any number of connections.
type Server struct {
	config      Config
	echo        *echo.Echo
	contract    *contract
	metrics     *metrics
	log         zerolog.Logger
	tokens      *auth.Store
	queue       *queue.Store
	workflows   *workflow.Store
	definitions *workflow.Definitions
	executions  *execution.Store
	events      *event.Store
	machines    *store
	artifacts   *artifact.Store
	hub         *stream.Hub
	secrets     *secret.Store
	audit       *audit.Store
	answers     *idempotency.Store
	limits      *limits
	open        openRequests
	leaving     leaving
	drained     Drained // written by Run
}

// New returns a server that is not listening yet.
func New(c Config) (*Server, error) {
	if c.Pool == nil || c.Queue == nil || c.Hub == nil {
		return nil, errs.E(errs.Internal, "An HTTP server needs a pool, a queue and a hub.")
	}
	c.Version = cmp.Or(c.Version, "dev")
	c.Environment = cmp.Or(c.Environment, "production")
	c.DrainTimeout = cmp.Or(c.DrainTimeout, drainTimeout)
	c.BodyTimeout = cmp.Or(c.BodyTimeout, readTimeout)
	c.ProbeTimeout = cmp.Or(c.ProbeTimeout, probeTimeout)
	if c.Reads == (Rate{}) {
		c.Reads = Rate{PerSecond: 200, Burst: 400}
	}
	if c.Writes == (Rate{}) {
		c.Writes = Rate{PerSecond: 50, Burst: 200}
	}
	if c.Accounts == nil {
		c.Accounts = auth.NewStore(c.Pool)
	}
	if c.Registry == nil {
		c.Registry = prometheus.NewRegistry()
	}
	contract, err := loadContract()
	if err != nil {
		return nil, fmt.Errorf("loading the HTTP contract: %w", err)
	}
	machines := newStore(c.Pool)
	workflows := workflow.NewStore(c.Pool)
	s := &Server{
		config: c, echo: echo.New(), contract: contract, log: c.Log, metrics: newMetrics(c.Registry, newGauges(machines, c.ProbeTimeout, c.Log)),
		tokens: c.Accounts, queue: c.Queue, workflows: workflows, definitions: workflow.NewDefinitions(workflows),
		executions: execution.NewStore(c.Pool), events: event.NewStore(c.Pool), artifacts: artifact.NewStore(c.Pool), machines: machines, hub: c.Hub,
		secrets: secret.NewStore(c.Pool, c.Keys), audit: audit.NewStore(c.Pool), answers: idempotency.NewStore(c.Pool),
		limits: newLimits(c.Reads, c.Writes), open: openRequests{all: make(map[*openRequest]struct{})},
	}
	s.routes()
	return s, nil
}

func (s *Server) routes() {
	e := s.echo
	e.HideBanner, e.HidePort = true, true
	e.IPExtractor = echo.ExtractIPFromXFFHeader(echo.TrustIPRange(sharedAddresses()))
	e.Logger.SetOutput(io.Discard) // what it would say comes back as errors
	e.HTTPErrorHandler = func(err error, c echo.Context) { s.fail(c, err) }
	e.Use(s.identify, s.observe, s.answerErrors, recoverPanics, s.boundBody, s.depart, crossOrigin(s.config.PublicURL), inAPI(s.authenticate), inAPI(s.limit), inAPI(s.validate))

	e.GET("/", s.page)
	s.authPages(e)
	e.GET("/healthz", health)
	e.GET("/readyz", s.ready)
	e.GET("/metrics", s.metrics.handler())
	e.GET("/api/openapi.json", s.contract.serve)
	e.GET("/docs", s.contract.reference)
	e.GET("/schema/workflow.json", workflowSchema)

	strict := openapi.NewStrictHandler(&handlers{s}, []openapi.StrictMiddlewareFunc{s.live, s.replay, s.permit})
	openapi.RegisterHandlersWithBaseURL(e, strict, apiPrefix)
}

// inAPI applies a middleware to what lies under /api/v1, addresses that do not exist included: strangers do not learn
// which do. (A group of echo's would answer 404 where 405 is right.)
func inAPI(middleware echo.MiddlewareFunc) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		inside := middleware(next)
		return func(c echo.Context) error {
			if strings.HasPrefix(c.Path(), apiPrefix) || strings.HasPrefix(c.Request().URL.Path, apiPrefix) {
				return inside(c)
			}
			return next(c)
		}
	}
}

// handlers implements the generated interface, one file per resource.
type handlers struct{ *Server }

// live hands requests for what goes on to stream.go; they write their answers themselves.
func (s *Server) live(next openapi.StrictHandlerFunc, _ string) openapi.StrictHandlerFunc {
	return func(c echo.Context, request any) (any, error) {
		switch r := request.(type) {
		case openapi.StreamEventsRequestObject:
			return nil, s.whileAuthenticated(c, func() error { return s.streamSummaries(c) })
		case openapi.ListExecutionEventsRequestObject:
			if accepts(c.Request(), "text/event-stream") {
				return nil, s.whileAuthenticated(c, func() error { return s.streamExecution(c, r) })
			}
		case openapi.GetExecutionLogsRequestObject:
			if valueOr(r.Params.Follow, false) {
				return nil, s.whileAuthenticated(c, func() error { return s.followLogs(c, r) })
			}
		}
		return next(c, request)
	}
}

// Handler returns the server as a handler, for tests and for other listeners.
func (s *Server) Handler() http.Handler { return s.echo }

// Run answers on the listener until ctx ends, and then drains: it gives notice, stops accepting, ends streams, gives what is in
// flight the rest of the drain timeout, and cuts what is left. It closes the listener. Call it once.
func (s *Server) Run(ctx context.Context, listener net.Listener) error {
	server := &http.Server{
		Handler: s.echo, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: headerBytes, ErrorLog: stdlog.New(s.log.With().Str("part", "net/http").Logger(), "", 0),
		// Requests outlive ctx: they are drained, not cut.
		BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
	}
	var watching sync.WaitGroup
	defer watching.Wait()
	watch, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	watching.Go(func() { s.watchCredentials(watch) })
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("serving HTTP: %w", err)
	case <-ctx.Done():
	}
	err := s.drain(ctx, server)
	if serveErr := <-served; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	return err
}
