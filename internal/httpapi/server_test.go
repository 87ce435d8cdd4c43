package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"foundry/internal/errs"
	"foundry/internal/execution"
	"foundry/internal/httpapi/openapi"
	"foundry/internal/workflow"
)

func TestAuthentication(t *testing.T) {
	t.Parallel()
	b := setup(t)
	me := get[openapi.Me](t, b, apiPrefix+"/me")
	if me.Organization.ID != b.orgID || me.Organization.Slug != "acme" || me.Token.Name != "test" || me.Token.ID == uuid.Nil {
		t.Errorf("me is %+v", me)
	}
	if a := b.call(t, http.MethodGet, apiPrefix+"/me", nil, "Authorization", "bearer  "+b.token); a.status != http.StatusOK {
		t.Errorf("the scheme in small letters gave %d", a.status)
	}
	for name, header := range map[string]string{
		"nothing":        "",
		"another scheme": "Basic dXNlcjpwYXNz",
		"no token":       "Bearer",
		"nonsense":       "Bearer nonsense",
		"a changed one":  "Bearer " + b.token[:len(b.token)-1] + "!",
		"without scheme": b.token,
	} {
		for _, path := range []string{"/me", "/executions", "/executions/" + uuid.NewString(), "/nothing/here"} {
			a := b.call(t, http.MethodGet, apiPrefix+path, nil, "Authorization", header)
			wantProblem(t, a, http.StatusUnauthorized, "unauthorized")
			if a.header.Get("WWW-Authenticate") != `Bearer realm="foundry"` {
				t.Errorf("%s: WWW-Authenticate is %q", name, a.header.Get("WWW-Authenticate"))
			}
		}
	}
}

func TestRouting(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, path := range []string{"/nothing", "/api", "/api/v2/me", "/api/v1/nothing", "/api/v1", "/api/v1/workflows/a/b/c", "/healthz/x", "/.env"} {
		wantProblem(t, b.call(t, http.MethodGet, path, nil), http.StatusNotFound, "not_found")
	}
	for path, allowed := range map[string]string{"/api/v1/me": "GET", "/healthz": "GET", "/api/v1/workflows": "GET, POST"} {
		a := b.call(t, http.MethodDelete, path, nil)
		wantProblem(t, a, http.StatusMethodNotAllowed, "method_not_allowed")
		for method := range strings.SplitSeq(allowed, ", ") {
			if !strings.Contains(a.header.Get("Allow"), method) {
				t.Errorf("%s: Allow is %q, want %q", path, a.header.Get("Allow"), allowed)
			}
		}
	}
}

func TestEveryOperationOfTheContractIsServed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	routes := map[string]bool{}
	for _, r := range b.server.echo.Routes() {
		routes[r.Method+" "+r.Path] = true
	}
	if len(b.server.contract.operations) < 15 {
		t.Errorf("only %d operations", len(b.server.contract.operations))
	}
	for name := range b.server.contract.operations {
		if !routes[name] {
			t.Errorf("%s is in the contract and not served", name)
		}
	}
	for path, item := range b.spec.Paths.Map() {
		if len(item.Servers) > 0 && !routes["GET "+path] {
			t.Errorf("GET %s is in the contract and not served", path)
		}
	}
}

func TestRequestID(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for given, kept := range map[string]bool{
		"abc-123_x.y:z": true, strings.Repeat("a", 64): true,
		"": false, "with blank": false, strings.Repeat("a", 65): false, "quote\"": false, "é": false,
	} {
		a := b.call(t, http.MethodGet, apiPrefix+"/me", nil, "X-Request-Id", given)
		if got := a.header.Get("X-Request-Id"); kept && got != given || !kept && uuid.Validate(got) != nil {
			t.Errorf("%q gave %q", given, got)
		}
	}
}

// logLines returns the log's records that belong to a request.
func logLines(t *testing.T, b *testBundle, requestID string) []map[string]any {
	t.Helper()
	var lines []map[string]any
	for line := range strings.Lines(b.log.String()) {
		var record map[string]any
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Fatalf("a log line is not JSON: %q", line)
		}
		if record["request_id"] == requestID {
			lines = append(lines, record)
		}
	}
	return lines
}

func TestAccessLog(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.workflow(t, "hello")
	b.call(t, http.MethodPost, apiPrefix+"/workflows/hello/executions", map[string]any{"inputs": map[string]any{"who": "very-private"}}, "X-Request-Id", "logged")
	b.call(t, http.MethodGet, apiPrefix+"/workflows/nobody?cursor=very-private", nil, "X-Request-Id", "refused")
	b.stop() // the line is written behind the answer
	lines := logLines(t, b, "logged")
	if len(lines) != 1 {
		t.Fatalf("%d lines: %v", len(lines), lines)
	}
	for key, want := range map[string]any{
		"method": "POST", "path": "/api/v1/workflows/hello/executions", "route": "/api/v1/workflows/:workflow/executions", "status": 202.0,
		"organization_id": b.orgID.String(), "level": "info",
	} {
		if lines[0][key] != want {
			t.Errorf("%s is %v, want %v", key, lines[0][key], want)
		}
	}
	if len(logLines(t, b, "refused")) == 0 {
		t.Error("a refused request left no line")
	}
	if log := b.log.String(); strings.Contains(log, "very-private") || strings.Contains(log, b.token) {
		t.Error("the log holds what was sent")
	}
}

func TestErrorsBecomeProblems(t *testing.T) {
	t.Parallel()
	b := setup(t)
	secret := errors.New(`ERROR: duplicate key value violates unique constraint "x" (SQLSTATE 23505)`)
	for name, c := range map[string]struct {
		err    error
		status int
		code   string
		detail string
		logged bool
	}{
		"unknown":     {secret, 500, "internal", "Internal error.", true},
		"wrapped":     {fmt.Errorf("reading: %w", errs.E(errs.NotFound, "There is none.").Because(secret)), 404, "not_found", "There is none.", false},
		"internal":    {errs.E(errs.Internal, "pgx.Conn broke").Because(secret), 500, "internal", "Internal error.", true},
		"unavailable": {errs.E(errs.Unavailable, "The database cannot be reached.").Because(secret), 503, "unavailable", "The database cannot be reached.", true},
		"too many":    {errs.E(errs.TooMany, "Later."), 429, "too_many", "Later.", false},
		"expired":     {errs.E(errs.Expired, "Gone."), 410, "expired", "Gone.", false},
		"forbidden":   {errs.E(errs.Forbidden, "No."), 403, "forbidden", "No.", false},
		"unclear":     {errs.E(errs.Unknown, "It may have happened."), 503, "unknown", "It may have happened.", true},
		"its own":     {errs.E("of_nobody_else", "No."), 422, "of_nobody_else", "No.", false},
		"echo's":      {echo.NewHTTPError(http.StatusBadRequest, "strconv.ParseInt: parsing"), 400, "invalid", "The request is malformed.", false},
		"echo's own":  {echo.NewHTTPError(http.StatusInternalServerError, secret), 500, "internal", "Internal error.", true},
		"body":        {&http.MaxBytesError{Limit: 1 << 20}, 413, "too_large", "The body is larger than 1 MiB.", false},
		"text":        {&workflowError{workflow.Diagnostics{{Severity: workflow.SeverityError, Message: "Bad."}}}, 422, "workflow_invalid", "The workflow text has a fault.", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := echo.New()
			recorder := httptest.NewRecorder()
			request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
			id := "errors-" + strings.ReplaceAll(name, " ", "-")
			request.Header.Set("X-Request-Id", strings.ReplaceAll(id, "'", "-"))
			handler := b.server.identify(b.server.answerErrors(func(echo.Context) error { return c.err }))
			if err := handler(e.NewContext(request, recorder)); err != nil {
				t.Fatal(err)
			}
			p := wantProblem(t, answer{recorder.Code, recorder.Header(), recorder.Body.Bytes()}, c.status, c.code)
			checkProblem(t, answer{recorder.Code, recorder.Header(), recorder.Body.Bytes()})
			if !strings.HasPrefix(p.Detail, c.detail) {
				t.Errorf("detail %q, want %q", p.Detail, c.detail)
			}
			if lines := logLines(t, b, recorder.Header().Get("X-Request-Id")); (len(lines) == 1) != c.logged {
				t.Errorf("%d log lines: %v", len(lines), lines)
			}
			if retry := recorder.Header().Get("Retry-After"); (retry != "") != (c.status == 429 || c.code == "unavailable") {
				t.Errorf("Retry-After is %q", retry)
			}
		})
	}
}

func TestPanicsAreAnswered(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.server.echo.GET("/panic", func(echo.Context) error {
		panic("broken on purpose")
	})
	a := b.call(t, http.MethodGet, "/panic", nil, "X-Request-Id", "panicked")
	wantProblem(t, a, http.StatusInternalServerError, "internal")
	b.stop()
	lines := logLines(t, b, "panicked")
	if !slices.ContainsFunc(lines, func(l map[string]any) bool {
		text, _ := l["error"].(string)
		return strings.Contains(text, "broken on purpose") && strings.Contains(text, "server_test.go")
	}) {
		t.Errorf("no stack in the log: %v", lines)
	}
}

func TestPagesOfOtherOriginsCannotWrite(t *testing.T) {
	t.Parallel()
	b := setup(t)
	path := apiPrefix + "/workflows"
	for _, headers := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}} {
		wantProblem(t, b.call(t, http.MethodPost, path, map[string]any{"source": helloText}, headers...), http.StatusForbidden, "forbidden")
	}
	for _, headers := range [][]string{{"Sec-Fetch-Site", "same-origin"}, {"Origin", b.url}} {
		a := b.call(t, http.MethodPost, path, map[string]any{"source": helloText, "slug": "s" + strings.ToLower(headers[0][:1])}, headers...)
		decode[openapi.Workflow](t, a, http.StatusCreated)
	}
	get[openapi.WorkflowPage](t, b, path)
}

func TestWorkersAndSandboxes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.workflow(t, "hello")
	id := b.started(t, "hello")
	worker, gone := b.worker(t, "active", 4, "1 hour"), b.worker(t, "gone", 1, "-1 second")
	b.exec(t, "UPDATE executions SET worker_id = $2 WHERE id = $1", id, worker)
	forgotten := b.worker(t, "gone", 1, "-1 hour")
	b.exec(t, "UPDATE workers SET gone_at = now() - interval '2 minutes' WHERE id = $1", forgotten)
	workers := get[openapi.Workers](t, b, apiPrefix+"/workers").Data
	if len(workers) != 2 || workers[0].ID != worker || workers[1].ID != gone {
		t.Fatalf("workers %+v", workers)
	}
	if w := workers[0]; w.State != openapi.Active || w.Slots != 4 || w.Held != 1 || w.Pid != 4242 || w.Host != "host-1" || w.GoneAt != nil {
		t.Errorf("worker %+v", w)
	}
	if workers[1].GoneAt == nil {
		t.Errorf("the one that left is %+v", workers[1])
	}

	var want, got []uuid.UUID
	for i, state := range []string{"creating", "ready", "kept", "destroying", "destroyed", "failed"} {
		sandbox := execution.NewID()
		b.exec(t, `INSERT INTO sandboxes (id, execution_id, provider, host, provider_id, state, claim, isolation, ended_at)
			VALUES ($1, $2, 'local', 'host-1', $3, $4, 1, 'bwrap', CASE WHEN $4 IN ('destroyed', 'failed') THEN now() END)`,
			sandbox, id, fmt.Sprint(i), state)
		if i < 4 {
			want = append([]uuid.UUID{sandbox}, want...)
		}
	}
	for cursor := ""; ; {
		p := get[openapi.SandboxPage](t, b, apiPrefix+"/sandboxes?limit=3"+cursor)
		for _, s := range p.Data {
			got = append(got, s.ID)
			if s.ExecutionID != id || s.Workflow != "hello" || s.Number != 1 || s.Provider != "local" || s.Isolation == nil || *s.Isolation != "bwrap" {
				t.Errorf("sandbox %+v", s)
			}
		}
		if p.NextCursor == nil {
			break
		}
		cursor = "&cursor=" + *p.NextCursor
	}
	if !slices.Equal(got, want) {
		t.Errorf("sandboxes %v, want %v", got, want)
	}
}

func TestReadiness(t *testing.T) {
	t.Parallel()
	broken := make(chan error, 1)
	b := setup(t, func(c *Config) {
		c.Checks = []Check{{Name: "listener", Run: func(context.Context) error {
			select {
			case err := <-broken:
				return err
			default:
				return nil
			}
		}}}
	})
	if a := b.call(t, http.MethodGet, "/healthz", nil); a.status != http.StatusOK || string(a.body) != "ok\n" {
		t.Errorf("healthz: %d %q", a.status, a.body)
	}
	readiness := func(status int) map[string]openapi.ReadinessCheck {
		r := decode[openapi.Readiness](t, b.call(t, http.MethodGet, "/readyz", nil), status)
		if r.Ready != (status == http.StatusOK) || len(r.Checks) != 3 {
			t.Errorf("readiness %+v", r)
		}
		checks := map[string]openapi.ReadinessCheck{}
		for _, c := range r.Checks {
			checks[c.Name] = c
		}
		return checks
	}
	readiness(http.StatusOK)
	broken <- errs.E(errs.Unavailable, "Nobody listens.")
	if c := readiness(http.StatusServiceUnavailable)["listener"]; c.Ok || c.Detail != "Nobody listens." {
		t.Errorf("the listener is %+v", c)
	}
	broken <- errors.New("dial tcp 10.0.0.1:5432: secret")
	if c := readiness(http.StatusServiceUnavailable)["listener"]; c.Ok || strings.Contains(c.Detail, "secret") {
		t.Errorf("the listener is %+v", c)
	}
	b.exec(t, `DO $$ DECLARE p text; BEGIN
		FOR p IN SELECT c.relname FROM pg_class c WHERE c.relname ~ '^execution_logs_[0-9]{8}$' AND c.relname > 'execution_logs_' || to_char(now() AT TIME ZONE 'UTC' + interval '2 days', 'YYYYMMDD')
		LOOP EXECUTE 'DROP TABLE ' || p; END LOOP; END $$`)
	if c := readiness(http.StatusServiceUnavailable)["partitions"]; c.Ok || !strings.Contains(c.Detail, "2 days") {
		t.Errorf("the partitions are %+v", c)
	}
	b.pool.Close()
	if c := readiness(http.StatusServiceUnavailable)["database"]; c.Ok {
		t.Errorf("the database is %+v", c)
	}
	wantProblem(t, b.call(t, http.MethodGet, apiPrefix+"/me", nil), http.StatusInternalServerError, "internal")
	if a := b.call(t, http.MethodGet, "/metrics", nil); a.status != http.StatusOK || !strings.Contains(string(a.body), "foundry_database_up 0") {
		t.Errorf("metrics without a database: %d", a.status)
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.workflow(t, "hello")
	b.queued(t, "hello")
	b.queued(t, "hello")
	b.started(t, "hello")
	b.worker(t, "active", 4, "1 hour")
	asked := time.Now()
	b.exec(t, "UPDATE executions SET queued_at = now() - interval '100 seconds' WHERE status = 'queued'")
	b.call(t, http.MethodGet, apiPrefix+"/workflows/nobody", nil)
	b.call(t, "BREW", "/wp-login.php", nil)
	b.call(t, http.MethodGet, "/wp-login.php", nil)
	text := string(b.call(t, http.MethodGet, "/metrics", nil).body)
	_, rest, _ := strings.Cut(text, "\nfoundry_queue_oldest_wait_seconds ")
	line, _, _ := strings.Cut(rest, "\n")
	if waited, err := strconv.ParseFloat(line, 64); err != nil || waited < 100 || waited > 100+time.Since(asked).Seconds() {
		t.Errorf("the oldest has waited for %q s, %v", line, err)
	}
	for _, want := range []string{
		"foundry_queue_depth 2\n", "foundry_executions{status=\"queued\"} 2\n", "foundry_executions{status=\"running\"} 1\n",
		"foundry_executions{status=\"waiting\"} 0\n", "foundry_workers_active 1\n", "foundry_database_up 1\n",
		`foundry_http_problems_total{code="not_found"} `,
		`foundry_http_request_duration_seconds_count{method="POST",route="/api/v1/workflows/:workflow/executions",status="202"} 3`,
		`foundry_http_request_duration_seconds_count{method="other",route="other",status="404"} `,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "wp-login") || strings.Contains(text, "BREW") {
		t.Error("what a scanner asks for is a label")
	}
}

func TestDocuments(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for path, want := range map[string]string{"/api/openapi.json": "openapi", "/schema/workflow.json": "$schema"} {
		a := b.call(t, http.MethodGet, path, nil)
		var document map[string]any
		if err := json.Unmarshal(a.body, &document); err != nil || a.status != http.StatusOK || document[want] == nil {
			t.Errorf("%s: %d, %v", path, a.status, err)
		}
	}
	a := b.call(t, http.MethodGet, "/", nil)
	text := string(a.body)
	if a.status != http.StatusOK || !strings.HasPrefix(a.header.Get("Content-Type"), "text/html") || !strings.Contains(text, "1.2.3") || !strings.Contains(text, "/api/openapi.json") {
		t.Errorf("the page is %d %s", a.status, text)
	}
	for _, outside := range []string{"http://", "https://", "src=", "@import"} {
		if strings.Contains(text, outside) {
			t.Errorf("the page asks others: %q", outside)
		}
	}
}

func TestRunDrainsWhatIsInFlight(t *testing.T) {
	t.Parallel()
	b := setup(t)
	entered, release := make(chan struct{}), make(chan struct{})
	b.server.echo.GET("/slow", func(c echo.Context) error {
		close(entered)
		select {
		case <-release:
			return c.String(http.StatusOK, "done")
		case <-c.Request().Context().Done():
			return context.Cause(c.Request().Context())
		}
	})
	answers := make(chan answer, 1)
	go func() { answers <- b.call(t, http.MethodGet, "/slow", nil) }()
	<-entered
	stopped := make(chan struct{})
	go func() { b.stop(); close(stopped) }()
	<-b.refuses
	select {
	case <-stopped:
		t.Fatal("Run returned while a request was in flight")
	default:
	}
	close(release)
	if a := <-answers; a.status != http.StatusOK || string(a.body) != "done" {
		t.Errorf("the request in flight got %d %q", a.status, a.body)
	}
	<-stopped
}

func TestRunCutsWhatDoesNotEnd(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.DrainTimeout = 50 * time.Millisecond })
	entered := make(chan struct{})
	b.server.echo.GET("/stuck", func(c echo.Context) error {
		close(entered)
		<-c.Request().Context().Done()
		return context.Cause(c.Request().Context())
	})
	failed := make(chan error, 1)
	go func() {
		response, err := b.client.Get(b.url + "/stuck") //nolint:noctx // ended by the server, which is the test
		if err == nil {
			_, err = io.Copy(io.Discard, response.Body)
			response.Body.Close()
		}
		failed <- err
	}()
	<-entered
	b.stop()
	if err := <-failed; err == nil {
		t.Error("the stuck request was answered")
	}
}

func TestBodiesMustComeInTimeAndStreamsNeedNot(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.BodyTimeout = 100 * time.Millisecond })
	entered, release := make(chan struct{}), make(chan struct{})
	b.server.echo.GET("/long", func(c echo.Context) error {
		close(entered)
		select {
		case <-release:
			return c.String(http.StatusOK, "done")
		case <-c.Request().Context().Done():
			return context.Cause(c.Request().Context())
		}
	})
	answers := make(chan answer, 1)
	go func() { answers <- b.call(t, http.MethodGet, "/long", nil) }()
	<-entered
	body, hold := io.Pipe()
	defer hold.Close()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.url+apiPrefix+"/workflows", body)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+b.token)
	request.Header.Set("Content-Type", "application/json")
	response, err := b.client.Do(request) // the body never comes
	if err == nil {
		defer response.Body.Close()
		if response.StatusCode != http.StatusBadRequest {
			t.Errorf("a body that never came gave %d", response.StatusCode)
		}
	}
	close(release) // the other request has lasted longer than a body may
	if a := <-answers; a.status != http.StatusOK || string(a.body) != "done" {
		t.Errorf("the long request got %d %q", a.status, a.body)
	}
}

// waitUntil polls a condition that something else makes true.
func waitUntil(t *testing.T, condition func() bool) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(streamWait)
	for !condition() {
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("it did not become true within %s", streamWait)
		}
	}
}
