package httpapi

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/labstack/echo/v4"
)

//go:embed docs.html
var docsText string

// docsPage is the reference as it is shown.
type docsPage struct {
	Description []docsBlock
	Groups      []docsGroup
	Schemas     []docsSchema
}

// docsGroup is the operations of one tag, in the order of paths.
type docsGroup struct {
	Name, Description string
	Operations        []docsOperation
}

type docsOperation struct {
	ID, Method, Path, Summary string
	Description               []docsBlock
	Public                    bool // without credentials
	Parameters                []docsField
	Bodies                    []docsBody
	Answers                   []docsAnswer
}

type docsBody struct {
	Media string
	Type  docsType
}

type docsAnswer struct {
	Status, Description string
	Bodies              []docsBody
}

// docsField is a parameter or a property.
type docsField struct {
	Name, In    string // In is empty for properties
	Required    bool
	Type        docsType
	Description string
}

// docsType is a type in words. Ref, if any, is the schema that it ends with.
type docsType struct{ Text, Ref, Note string }

type docsSchema struct {
	Name, Description string
	Base              []docsType // schemas that it includes
	Type              *docsType  // of what is no object
	Fields            []docsField
}

// docsBlock is a paragraph of text; Code pieces are shown as such.
type docsBlock []docsSpan

type docsSpan struct {
	Text string
	Code bool
}

// renderDocs makes the page. It holds everything that it shows: neither scripts nor addresses of others.
func renderDocs(document *openapi3.T) ([]byte, error) {
	page, err := template.New("docs").Funcs(template.FuncMap{"prose": prose}).Parse(docsText)
	if err != nil {
		return nil, fmt.Errorf("parsing the reference's template: %w", err)
	}
	var out bytes.Buffer
	if err := page.Execute(&out, newDocsPage(document)); err != nil {
		return nil, fmt.Errorf("rendering the reference: %w", err)
	}
	return out.Bytes(), nil
}

func newDocsPage(document *openapi3.T) docsPage {
	page := docsPage{Description: prose(document.Info.Description)}
	byTag := map[string][]docsOperation{}
	for _, path := range slices.Sorted(maps.Keys(document.Paths.Map())) {
		item := document.Paths.Value(path)
		operations := item.Operations()
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
			if op := operations[method]; op != nil {
				byTag[op.Tags[0]] = append(byTag[op.Tags[0]], newDocsOperation(path, method, item, op))
			}
		}
	}
	for _, tag := range document.Tags {
		page.Groups = append(page.Groups, docsGroup{Name: tag.Name, Description: tag.Description, Operations: byTag[tag.Name]})
	}
	for _, name := range slices.Sorted(maps.Keys(document.Components.Schemas)) {
		page.Schemas = append(page.Schemas, newDocsSchema(name, document.Components.Schemas[name].Value))
	}
	return page
}

func newDocsOperation(path, method string, item *openapi3.PathItem, op *openapi3.Operation) docsOperation {
	if len(item.Servers) == 0 {
		path = apiPrefix + path
	}
	o := docsOperation{
		ID: op.OperationID, Method: method, Path: path, Summary: op.Summary, Description: prose(op.Description),
		Public: op.Security != nil && len(*op.Security) == 0,
	}
	for _, ref := range slices.Concat(item.Parameters, op.Parameters) {
		p := ref.Value
		o.Parameters = append(o.Parameters, docsField{
			Name: p.Name, In: p.In, Required: p.Required, Type: typeOf(p.Schema), Description: p.Description,
		})
	}
	if op.RequestBody != nil {
		o.Bodies = bodiesOf(op.RequestBody.Value.Content)
	}
	for _, status := range slices.Sorted(maps.Keys(op.Responses.Map())) {
		answer := op.Responses.Value(status).Value
		shown := docsAnswer{Status: status, Bodies: bodiesOf(answer.Content)}
		if status == "default" {
			shown.Status = "4xx, 5xx"
		}
		if answer.Description != nil {
			shown.Description = *answer.Description
		}
		o.Answers = append(o.Answers, shown)
	}
	return o
}

func bodiesOf(content openapi3.Content) []docsBody {
	var bodies []docsBody
	for _, media := range slices.Sorted(maps.Keys(content)) {
		bodies = append(bodies, docsBody{Media: media, Type: typeOf(content[media].Schema)})
	}
	return bodies
}

func newDocsSchema(name string, s *openapi3.Schema) docsSchema {
	shown := docsSchema{Name: name, Description: s.Description}
	parts := append([]*openapi3.SchemaRef{{Value: s}}, s.AllOf...)
	for _, part := range parts {
		if part.Ref != "" {
			shown.Base = append(shown.Base, typeOf(part))
			continue
		}
		for _, field := range slices.Sorted(maps.Keys(part.Value.Properties)) {
			property := part.Value.Properties[field]
			shown.Fields = append(shown.Fields, docsField{
				Name: field, Required: slices.Contains(part.Value.Required, field), Type: typeOf(property), Description: descriptionOf(property),
			})
		}
	}
	if len(shown.Fields) == 0 && len(shown.Base) == 0 {
		t := typeOf(&openapi3.SchemaRef{Value: s})
		shown.Type = &t
	}
	return shown
}

// descriptionOf is what a property says of itself; that of a schema it refers to is shown there.
func descriptionOf(s *openapi3.SchemaRef) string {
	if s.Ref != "" {
		return ""
	}
	return s.Value.Description
}

// typeOf says what a value is: "array of", a reference or a type, and its bounds as a note.
func typeOf(s *openapi3.SchemaRef) docsType {
	if s == nil {
		return docsType{}
	}
	if s.Ref != "" {
		return docsType{Ref: s.Ref[strings.LastIndex(s.Ref, "/")+1:]}
	}
	v := s.Value
	if len(v.AllOf) == 1 && len(v.Properties) == 0 { // a reference with something said about it
		t := typeOf(v.AllOf[0])
		t.Note = join(t.Note, boundsOf(v))
		return t
	}
	if v.Items != nil {
		t := typeOf(v.Items)
		t.Text, t.Note = strings.TrimSpace("array of "+t.Text), join(t.Note, boundsOf(v))
		return t
	}
	text := "any"
	if v.Type != nil {
		text = strings.Join(v.Type.Slice(), " or ")
	}
	if v.Format != "" {
		text += " (" + v.Format + ")"
	}
	return docsType{Text: text, Note: boundsOf(v)}
}

func join(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), ", ")
}

// boundsOf lists what a schema allows beyond its type.
func boundsOf(s *openapi3.Schema) string {
	var notes []string
	if len(s.Enum) > 0 {
		values := make([]string, len(s.Enum))
		for i, value := range s.Enum {
			values[i] = fmt.Sprint(value)
		}
		notes = append(notes, "one of "+strings.Join(values, ", "))
	}
	if s.Min != nil {
		notes = append(notes, fmt.Sprintf("at least %g", *s.Min))
	}
	if s.Max != nil {
		notes = append(notes, fmt.Sprintf("at most %g", *s.Max))
	}
	if s.MinLength > 0 {
		notes = append(notes, fmt.Sprintf("at least %d characters", s.MinLength))
	}
	if s.MaxLength != nil {
		notes = append(notes, fmt.Sprintf("at most %d characters", *s.MaxLength))
	}
	if s.MaxItems != nil {
		notes = append(notes, fmt.Sprintf("at most %d entries", *s.MaxItems))
	}
	if s.Default != nil {
		notes = append(notes, fmt.Sprintf("default %v", s.Default))
	}
	if s.Nullable {
		notes = append(notes, "or null")
	}
	return strings.Join(notes, ", ")
}

// prose splits a description into paragraphs, at empty lines, and `code`.
func prose(text string) []docsBlock {
	var blocks []docsBlock
	for paragraph := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		var block docsBlock
		for i, piece := range strings.Split(paragraph, "`") {
			if piece != "" {
				block = append(block, docsSpan{Text: piece, Code: i%2 == 1})
			}
		}
		if block != nil {
			blocks = append(blocks, block)
		}
	}
	return blocks
}

// reference answers GET /docs.
func (c *contract) reference(e echo.Context) error {
	header := e.Response().Header()
	header.Set(echo.HeaderCacheControl, "no-cache")
	header.Set(echo.HeaderContentSecurityPolicy, "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
	return e.HTMLBlob(http.StatusOK, c.docs)
}
