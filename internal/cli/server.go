package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"foundry/internal/errs"
)

const (
	answerTimeout = 30 * time.Second // until the headers of an answer
	dialTimeout   = 10 * time.Second
	maxAnswer     = 64 << 20 // bytes of a JSON answer; a page of 1,000 log chunks is the largest
)

// server is the HTTP API of one Foundry.
type server struct {
	base  *url.URL // without /api/v1
	token string
	http  *http.Client
}

func newServer(address, token string) (*server, error) {
	base, err := url.Parse(strings.TrimRight(address, "/"))
	if err != nil || base.Host == "" || (base.Scheme != "http" && base.Scheme != "https") {
		return nil, usage("%q is not the URL of a server, such as http://127.0.0.1:8080.", address)
	}
	transport := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSHandshakeTimeout:   dialTimeout,
		ResponseHeaderTimeout: answerTimeout,
		IdleConnTimeout:       answerTimeout,
		ForceAttemptHTTP2:     true,
	}
	return &server{base: base, token: token, http: &http.Client{Transport: transport}}, nil
}

// close lets go of idle connections.
func (s *server) close() { s.http.CloseIdleConnections() }

// request is one call. A nil body sends none.
type request struct {
	method string
	path   []string // below /api/v1, unescaped
	query  url.Values
	header http.Header
	body   any    // sent as JSON
	form   []byte // sent as it is, instead of body; header has its type
}

// call sends a request and decodes the JSON of a 2xx answer into answer, unless that is nil. It
// returns the answer's bytes. Any other answer is a *refusal.
func (s *server) call(ctx context.Context, r request, answer any) (json.RawMessage, error) {
	resp, err := s.send(ctx, r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	if answer == nil {
		return body, nil
	}
	if err := json.Unmarshal(body, answer); err != nil {
		return nil, errs.E(errs.Unavailable, "%s did not answer as a Foundry server does.", s.base).Because(err)
	}
	return body, nil
}

// send sends a request and returns its 2xx answer, whose body the caller closes.
func (s *server) send(ctx context.Context, r request) (*http.Response, error) {
	var body io.Reader
	if r.body != nil {
		text, err := json.Marshal(r.body)
		if err != nil {
			return nil, fmt.Errorf("encoding the request: %w", err)
		}
		body = bytes.NewReader(text)
	}
	if r.form != nil {
		body = bytes.NewReader(r.form)
	}
	target := s.base.JoinPath("api", "v1").JoinPath(escaped(r.path)...)
	target.RawQuery = r.query.Encode()
	req, err := http.NewRequestWithContext(ctx, r.method, target.String(), body)
	if err != nil {
		return nil, fmt.Errorf("making the request: %w", err)
	}
	for name, values := range r.header {
		req.Header[name] = values
	}
	if r.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if s.token != "" {
		req.Header.Set("Authorization", "Bearer "+s.token)
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return nil, s.unreachable(ctx, err)
	}
	if resp.StatusCode >= 200 && resp.StatusCode <= 299 {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, refused(resp)
}

func escaped(path []string) []string {
	out := make([]string, len(path))
	for i, segment := range path {
		out[i] = url.PathEscape(segment)
	}
	return out
}

// unreachable is the error of a request that got no answer.
func (s *server) unreachable(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return errors.Join(cause, ctx.Err())
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return errs.E(errs.Unavailable, "No server answers at %s. Start one with `foundry dev`, or set FOUNDRY_URL.", s.base).Because(op.Err)
	}
	return errs.E(errs.Unavailable, "The connection to %s broke.", s.base).Because(err)
}

// refused reads the problem document of an answer that is not 2xx.
func refused(resp *http.Response) error {
	e := &refusal{status: resp.StatusCode}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil || !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/problem+json") {
		return e
	}
	if err := json.Unmarshal(body, &e.problem); err != nil {
		return &refusal{status: resp.StatusCode}
	}
	return e
}
