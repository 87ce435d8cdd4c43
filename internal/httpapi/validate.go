package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"foundry/internal/errs"
)

const (
	mediaJSON = "application/json"
	mediaForm = "multipart/form-data"

	maxJSON = 1 << 20
	maxForm = 12 << 20
)

// validate holds a request against the contract, so that handlers get what its types say: known parameters
// of the right kind, and a JSON body that matches its schema.
func (s *Server) validate(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		op := s.contract.operation(c.Request().Method, c.Path())
		if op == nil {
			return next(c) // no such address: echo says so
		}
		if err := op.checkPath(c); err != nil {
			return err
		}
		if err := op.checkQuery(c.Request().URL); err != nil {
			return err
		}
		if err := op.checkBody(c); err != nil {
			return err
		}
		return next(c)
	}
}

// checkPath treats an id that cannot be one as an id of nothing.
func (o *operation) checkPath(c echo.Context) error {
	for _, p := range o.path {
		text, err := url.PathUnescape(c.Param(p.Name))
		ok := err == nil && isText(text)
		if ok && p.Schema.Value.Format == "uuid" {
			_, err = uuid.Parse(text)
		} else if ok {
			_, err = parameterValue(p.Schema.Value, []string{text})
		}
		if !ok || err != nil {
			return errs.E(errs.NotFound, "There is no %s %q.", p.Name, truncated(strings.ToValidUTF8(text, "�"), 80))
		}
	}
	return nil
}

func (o *operation) checkQuery(address *url.URL) error {
	query, err := url.ParseQuery(address.RawQuery)
	if err != nil {
		return errs.E(errs.Invalid, "The query string is malformed.").Because(err)
	}
	refused := errs.E(errs.Invalid, "The query string is not valid.")
	for name, values := range query {
		if detail := o.queryProblem(name, values); detail != "" {
			refused = refused.With("?"+name, "%s", detail)
		}
	}
	return refusal(refused)
}

func (o *operation) queryProblem(name string, values []string) string {
	p := o.query[name]
	switch {
	case p == nil:
		return "This address knows no such parameter."
	case len(values) > 1 && !p.Schema.Value.Type.Is(openapi3.TypeArray):
		return "May be given only once."
	}
	for _, value := range values {
		if !isText(value) {
			return "Must be text in UTF-8 without NUL."
		}
	}
	value, err := parameterValue(p.Schema.Value, values)
	if err != nil {
		return err.Error()
	}
	if err := p.Schema.Value.VisitJSON(value); err != nil {
		return schemaDetails(err)[0].Detail
	}
	return ""
}

// parameterValue reads a parameter as its schema's type. The error is a sentence.
func parameterValue(schema *openapi3.Schema, values []string) (any, error) {
	switch {
	case schema.Type.Is(openapi3.TypeArray):
		list := make([]any, len(values))
		for i, value := range values {
			list[i] = value
		}
		return list, nil
	case schema.Type.Is(openapi3.TypeInteger):
		bits := 64
		if schema.Format == "int32" {
			bits = 32
		}
		n, err := strconv.ParseInt(values[0], 10, bits)
		if err != nil {
			return nil, errors.New("Must be a whole number.") //nolint:staticcheck // a sentence for a person
		}
		return n, nil
	case schema.Type.Is(openapi3.TypeBoolean):
		if values[0] != "true" && values[0] != "false" {
			return nil, errors.New("Must be true or false.") //nolint:staticcheck // a sentence for a person
		}
		return values[0] == "true", nil
	case schema.Format == "date-time":
		if _, err := time.Parse(time.RFC3339, values[0]); err != nil {
			return nil, errors.New("Must be a time such as 2026-01-31T09:30:00Z.") //nolint:staticcheck // a sentence for a person
		}
	}
	return values[0], nil
}

// checkBody bounds the body. JSON is read, checked and put back; a form is left for its handler to stream.
func (o *operation) checkBody(c echo.Context) error {
	request := c.Request()
	if o.body == nil {
		return nil
	}
	contentType := request.Header.Get(echo.HeaderContentType)
	if contentType == "" && request.ContentLength == 0 && !o.body.Required {
		return nil
	}
	media, params, err := mime.ParseMediaType(contentType)
	if err != nil || o.body.Content[media] == nil {
		return errs.E(unsupportedMediaType, "Send the body as %s.", o.mediaTypes())
	}
	if media == mediaForm && params["boundary"] == "" {
		return errs.E(errs.Invalid, "The content type of the form names no boundary.")
	}
	limit := int64(maxJSON)
	if media == mediaForm {
		limit = maxForm
	}
	if request.ContentLength > limit {
		return tooLarge(limit)
	}
	request.Body = http.MaxBytesReader(c.Response(), request.Body, limit)
	request.Header.Set(echo.HeaderContentType, mime.FormatMediaType(media, params)) // generated code compares letters
	if media != mediaJSON {
		return nil
	}
	request.Header.Set(echo.HeaderContentType, mediaJSON)
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return bodyError(err)
	}
	// The deadline was for the body (boundBody); the answer may take longer.
	if err := http.NewResponseController(c.Response()).SetReadDeadline(time.Time{}); err != nil {
		return fmt.Errorf("ending the time for a body: %w", err)
	}
	request.Body, request.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	if len(bytes.TrimSpace(body)) == 0 && !o.body.Required {
		request.Body, request.ContentLength = http.NoBody, 0
		return nil
	}
	return checkJSON(body, o.body.Content[media].Schema.Value)
}

func checkJSON(body []byte, schema *openapi3.Schema) error {
	if !utf8.Valid(body) {
		return errs.E(errs.Invalid, "The body is not UTF-8.")
	}
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		return jsonError(body, err)
	}
	refused := errs.E(errs.Validation, "The body is not what this address reads.")
	if err := schema.VisitJSON(value, openapi3.MultiErrors(), openapi3.VisitAsRequest()); err != nil {
		refused.Details = schemaDetails(err)
	}
	return refusal(refused)
}

// jsonError says where malformed JSON goes wrong. Line and column count from 1, columns in bytes.
func jsonError(body []byte, err error) error {
	offset := len(body)
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		offset = int(syntax.Offset)
	}
	before := body[:max(0, min(offset, len(body))-1)]
	line := 1 + bytes.Count(before, []byte("\n"))
	column := len(before) - bytes.LastIndexByte(before, '\n')
	return errs.E(errs.Invalid, "The body is not JSON: it goes wrong at line %d, column %d.", line, column).Because(err)
}

// bodyError tells a body that is too large from one that broke off.
func bodyError(err error) error {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return err
	}
	return errs.E(errs.Invalid, "The body broke off.").Because(err)
}

// refusal returns e when it has details, which it sorts and puts into its sentence when there is just one.
func refusal(e *errs.Error) error {
	if len(e.Details) == 0 {
		return nil
	}
	sortDetails(e.Details)
	if len(e.Details) == 1 {
		d := e.Details[0]
		e.Message = fmt.Sprintf("%s %s: %s", strings.TrimSuffix(e.Message, "."), pointed(d.Pointer), d.Detail)
	}
	return e
}

func isText(s string) bool {
	return utf8.ValidString(s) && !strings.Contains(s, "\x00")
}
