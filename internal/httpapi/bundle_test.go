package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"foundry/api"
	"foundry/internal/auth"
	"foundry/internal/event"
	"foundry/internal/execution"
	"foundry/internal/httpapi/openapi"
	"foundry/internal/pgtest"
	"foundry/internal/postgres"
	"foundry/internal/queue"
	"foundry/internal/stream"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// testBundle is a server that listens, on a database of its own.
type testBundle struct {
	pool   *pgxpool.Pool
	server *Server
	url    string
	token  string
	orgID  uuid.UUID
	client *http.Client
	log    *syncBuffer
	spec   *openapi3.T
	stop   func() // ends Run and waits for it
	// refuses is closed once the server accepts no connections any more. To ask its address would not tell: another server of
	// the machine may have been given the port.
	refuses <-chan struct{}
}

func setup(t *testing.T, edit ...func(*Config)) *testBundle {
	t.Helper()
	pool := pgtest.Pool(t)
	log := &syncBuffer{}
	logger := zerolog.New(log)
	config := Config{
		Pool: pool, Queue: queue.NewStore(pool, postgres.NewNotifier(pool, logger)), Log: logger,
		Registry: prometheus.NewRegistry(), Version: "1.2.3",
		DrainTimeout: time.Minute, ProbeTimeout: time.Minute, // a slow machine is no fault
	}
	hub, err := stream.New(stream.Config{Events: event.NewStore(pool), Executions: execution.NewStore(pool), Log: logger})
	if err != nil {
		t.Fatal(err)
	}
	config.Hub = hub
	for _, f := range edit {
		f(&config)
	}
	server, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	b := &testBundle{pool: pool, server: server, log: log, client: &http.Client{Transport: &http.Transport{}}}
	b.spec, err = openapi3.NewLoader().LoadFromData(api.Spec())
	if err != nil {
		t.Fatal(err)
	}
	b.orgID, b.token = b.organization(t, "acme")
	b.start(t, hub)
	return b
}

func (b *testBundle) start(t *testing.T, hub *stream.Hub) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b.url = "http://" + listener.Addr().String()
	refuses := make(chan struct{})
	b.refuses = refuses
	ctx, cancel := context.WithCancel(context.Background())
	streams, end := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := hub.Run(streams); err != nil {
			t.Errorf("the hub: %v", err)
		}
	})
	running.Go(func() {
		defer end()
		if err := b.server.Run(ctx, &tellingListener{Listener: listener, close: sync.OnceValue(func() error {
			defer close(refuses)
			return listener.Close()
		})}); err != nil {
			t.Errorf("the server: %v", err)
		}
	})
	b.stop = func() {
		cancel()
		running.Wait()
	}
	t.Cleanup(func() {
		b.client.CloseIdleConnections()
		b.stop()
	})
}

// tellingListener is closed in a way of its own.
type tellingListener struct {
	net.Listener

	close func() error
}

func (l *tellingListener) Close() error { return l.close() }

// organization makes another tenant and a token of it.
func (b *testBundle) organization(t *testing.T, slug string) (uuid.UUID, string) {
	t.Helper()
	id, err := b.server.tokens.EnsureOrganization(t.Context(), slug, slug)
	if err != nil {
		t.Fatal(err)
	}
	token, err := auth.NewStore(b.pool).Create(t.Context(), id, "test", 0)
	if err != nil {
		t.Fatal(err)
	}
	return id, token.Reveal()
}

// answer is a response that was read to its end.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// call sends a request under /api/v1 with the token, or elsewhere without it. A body of bytes or text goes as it is, any other as JSON.
func (b *testBundle) call(t *testing.T, method, path string, body any, headers ...string) answer {
	t.Helper()
	var reader io.Reader
	switch body := body.(type) {
	case nil:
	case string:
		reader = strings.NewReader(body)
	case []byte:
		reader = bytes.NewReader(body)
	default:
		encoded, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		reader = bytes.NewReader(encoded)
	}
	request, err := http.NewRequestWithContext(t.Context(), method, b.url+path, reader)
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasPrefix(path, apiPrefix) {
		request.Header.Set("Authorization", "Bearer "+b.token)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Del(headers[i])
		if headers[i+1] != "" {
			request.Header.Set(headers[i], headers[i+1])
		}
	}
	response, err := b.client.Do(request)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("%s %s: reading the answer: %v", method, path, err)
	}
	if response.Close {
		response.Header.Set("Connection", "close") // the client has taken it out
	}
	a := answer{status: response.StatusCode, header: response.Header, body: content}
	b.checkContract(t, request, a)
	return a
}

// get asks for JSON and decodes it.
func get[T any](t *testing.T, b *testBundle, path string) T {
	t.Helper()
	return decode[T](t, b.call(t, http.MethodGet, path, nil), http.StatusOK)
}

// post sends JSON and decodes the answer, whose status must be the one given.
func post[T any](t *testing.T, b *testBundle, path string, body any, status int) T {
	t.Helper()
	return decode[T](t, b.call(t, http.MethodPost, path, body), status)
}

func decode[T any](t *testing.T, a answer, status int) T {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	var v T
	if err := json.Unmarshal(a.body, &v); err != nil {
		t.Fatalf("decoding %s: %v", a.body, err)
	}
	return v
}

// checkContract holds every JSON answer against openapi.yaml, so that no test can pass with an answer that it does not describe.
func (b *testBundle) checkContract(t *testing.T, request *http.Request, a answer) {
	t.Helper()
	if id := a.header.Get("X-Request-Id"); id == "" {
		t.Errorf("%s %s: no X-Request-Id", request.Method, request.URL.Path)
	}
	media, _, _ := strings.Cut(a.header.Get("Content-Type"), ";")
	if media == "application/problem+json" {
		checkProblem(t, a)
		return
	}
	path, inAPI := strings.CutPrefix(request.URL.Path, apiPrefix)
	if !inAPI || media != mediaJSON {
		return
	}
	op := b.specOperation(request.Method, path)
	if op == nil {
		t.Errorf("%s %s is not in the contract", request.Method, path)
		return
	}
	response := op.Responses.Status(a.status)
	if response == nil || response.Value.Content[mediaJSON] == nil {
		t.Errorf("%s %s: the contract knows no JSON answer %d", request.Method, path, a.status)
		return
	}
	var value any
	if err := json.Unmarshal(a.body, &value); err != nil {
		t.Errorf("%s %s: not JSON: %v", request.Method, path, err)
		return
	}
	if err := response.Value.Content[mediaJSON].Schema.Value.VisitJSON(value, openapi3.MultiErrors(), openapi3.VisitAsResponse()); err != nil {
		t.Errorf("%s %s: the answer is not what the contract says: %v", request.Method, path, err)
	}
}

func (b *testBundle) specOperation(method, path string) *openapi3.Operation {
	var found *openapi3.Operation
	literal := -1
	for pattern, item := range b.spec.Paths.Map() {
		expression := "^" + pathParameter.ReplaceAllString(pattern, `[^/]+`) + "$"
		if regexp.MustCompile(expression).MatchString(path) && item.GetOperation(method) != nil {
			if n := len(pathParameter.ReplaceAllString(pattern, "")); n > literal {
				found, literal = item.GetOperation(method), n
			}
		}
	}
	return found
}

// leaks is what a problem must not hold: SQLSTATEs, Go's types and packages, paths of files, Postgres's words.
var leaks = regexp.MustCompile(`SQLSTATE|\b[0-9]{2}[0-9A-Z]{3}\b.*ERROR|ERROR:|\*?\b(json|openapi3?|pgx|uuid|echo|errs|http|strconv|workflow|dbsqlc|runtime)\.[A-Z]\w+|\.go:|goroutine|/work/|/root/|/tmp/|/home/|map\[|interface \{|%!|\bnil\b|unmarshal|violates|duplicate key|relation "|syntax error at`)

func checkProblem(t *testing.T, a answer) {
	t.Helper()
	var p openapi.Problem
	decoder := json.NewDecoder(bytes.NewReader(a.body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&p); err != nil {
		t.Errorf("a problem that is none: %v: %s", err, a.body)
		return
	}
	if p.Status != a.status || p.Title != http.StatusText(a.status) || p.Type != "about:blank" || p.Code == "" || p.RequestID != a.header.Get("X-Request-Id") {
		t.Errorf("an incomplete problem for status %d: %s", a.status, a.body)
	}
	if !isSentence(p.Detail) {
		t.Errorf("the detail is not a sentence: %q", p.Detail)
	}
	for _, e := range p.Errors {
		if !isSentence(e.Detail) {
			t.Errorf("the detail of %q is not a sentence: %q", e.Pointer, e.Detail)
		}
	}
	if leak := leaks.Find(a.body); leak != nil {
		t.Errorf("the problem shows %q: %s", leak, a.body)
	}
}

func isSentence(s string) bool {
	return s != "" && (strings.HasSuffix(s, ".") || strings.HasSuffix(s, "?"))
}

// wantProblem fails unless the answer is a problem with the status and code.
func wantProblem(t *testing.T, a answer, status int, code string) openapi.Problem {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	if got := a.header.Get("Content-Type"); got != "application/problem+json" {
		t.Fatalf("content type %q", got)
	}
	p := decode[openapi.Problem](t, a, status)
	if p.Code != code {
		t.Errorf("code %q, want %q: %s", p.Code, code, a.body)
	}
	return p
}

// wantPointers fails unless the problem points at exactly these parts.
func wantPointers(t *testing.T, p openapi.Problem, pointers ...string) {
	t.Helper()
	var got []string
	for _, e := range p.Errors {
		got = append(got, e.Pointer)
	}
	if strings.Join(got, " ") != strings.Join(pointers, " ") {
		t.Errorf("the problem points at %q, want %q: %+v", got, pointers, p.Errors)
	}
}

// syncBuffer is a log that several goroutines write.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
