package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/labstack/echo/v4"

	"foundry/api"
)

// contract is api/openapi.yaml, by route.
type contract struct {
	operations map[string]*operation // by method, blank and route, as "GET /api/v1/executions/:execution"
	document   []byte                // as JSON
	docs       []byte                // as a page
}

// operation is what the contract says about one method of one path.
type operation struct {
	path  []*openapi3.Parameter
	query map[string]*openapi3.Parameter
	body  *openapi3.RequestBody // nil: none is read
	// public operations ask for no credentials.
	public bool
}

var pathParameter = regexp.MustCompile(`\{(\w+)\}`)

func loadContract() (*contract, error) {
	document, err := openapi3.NewLoader().LoadFromData(api.Spec())
	if err != nil {
		return nil, fmt.Errorf("reading openapi.yaml: %w", err)
	}
	if err := document.Validate(context.Background()); err != nil {
		return nil, fmt.Errorf("checking openapi.yaml: %w", err)
	}
	if len(document.Servers) != 1 || document.Servers[0].URL != apiPrefix {
		return nil, errors.New("openapi.yaml does not name " + apiPrefix + " as its only server")
	}
	encoded, err := json.Marshal(document)
	if err != nil {
		return nil, fmt.Errorf("encoding openapi.yaml: %w", err)
	}
	docs, err := renderDocs(document)
	if err != nil {
		return nil, err
	}
	c := &contract{operations: make(map[string]*operation), document: encoded, docs: docs}
	for path, item := range document.Paths.Map() {
		if len(item.Servers) > 0 {
			continue // outside the API, and without parameters
		}
		route := apiPrefix + pathParameter.ReplaceAllString(path, ":$1")
		for method, op := range item.Operations() {
			c.operations[method+" "+route] = newOperation(item, op)
		}
	}
	return c, nil
}

func newOperation(item *openapi3.PathItem, op *openapi3.Operation) *operation {
	o := &operation{query: make(map[string]*openapi3.Parameter)}
	for _, ref := range append(item.Parameters[:len(item.Parameters):len(item.Parameters)], op.Parameters...) {
		switch p := ref.Value; p.In {
		case openapi3.ParameterInPath:
			o.path = append(o.path, p)
		case openapi3.ParameterInQuery:
			o.query[p.Name] = p
		}
	}
	o.public = op.Security != nil && len(*op.Security) == 0
	if op.RequestBody != nil {
		o.body = op.RequestBody.Value
	}
	return o
}

// operation returns nil for what the contract does not know.
func (c *contract) operation(method, route string) *operation {
	return c.operations[method+" "+route]
}

// serve answers GET /api/openapi.json.
func (c *contract) serve(e echo.Context) error {
	e.Response().Header().Set(echo.HeaderCacheControl, "no-cache")
	return e.JSONBlob(http.StatusOK, c.document)
}

// mediaTypes lists what a body may be sent as, as the end of a sentence.
func (o *operation) mediaTypes() string {
	var names []string
	for _, name := range []string{mediaJSON, mediaForm} {
		if o.body.Content[name] != nil {
			names = append(names, name)
		}
	}
	return strings.Join(names, " or ")
}
