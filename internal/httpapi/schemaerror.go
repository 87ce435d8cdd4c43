package httpapi

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"

	"foundry/internal/errs"
)

// maxDetails bounds an answer; who has more faults mends these first.
const maxDetails = 50

// schemaDetails says in sentences what kin-openapi found, in the order of the pointers. err is not nil, and
// the list is not empty.
func schemaDetails(err error) []errs.Detail {
	var details []errs.Detail
	for _, fault := range flatten(err) {
		details = append(details, faultDetails(fault)...)
	}
	if len(details) == 0 {
		details = []errs.Detail{{Detail: "Is not valid."}}
	}
	sortDetails(details)
	details = slices.Compact(details)
	return details[:min(len(details), maxDetails)]
}

// flatten returns the leaves of a tree of errors; a schema made of schemas (allOf) has its own.
func flatten(err error) []*openapi3.SchemaError {
	if many, ok := errors.AsType[openapi3.MultiError](err); ok {
		var list []*openapi3.SchemaError
		for _, one := range many {
			list = append(list, flatten(one)...)
		}
		return list
	}
	if one, ok := errors.AsType[*openapi3.SchemaError](err); ok {
		return []*openapi3.SchemaError{one}
	}
	return nil
}

func faultDetails(e *openapi3.SchemaError) []errs.Detail {
	pointer := pointerOf(e.JSONPointer())
	object, ok := e.Value.(map[string]any)
	if e.SchemaField == "properties" && ok {
		var details []errs.Detail
		for _, key := range slices.Sorted(maps.Keys(object)) {
			if e.Schema.Properties[key] == nil {
				details = append(details, errs.Detail{Pointer: pointer + "/" + escapePointer(key), Detail: "There is no such field."})
			}
		}
		return details
	}
	return []errs.Detail{{Pointer: pointer, Detail: sentence(e)}}
}

// sentence says what a value must be. It never quotes the value, which may be large or private.
func sentence(e *openapi3.SchemaError) string {
	schema := e.Schema
	switch e.SchemaField {
	case "required":
		return "Is missing."
	case "type", "nullable":
		return "Must be " + article(schema.Type) + "."
	case "minimum", "maximum":
		return "Must be " + between(schema.Min, schema.Max) + "."
	case "minLength", "maxLength":
		return "Must have " + counted(schema.MinLength, schema.MaxLength, "characters") + "."
	case "minItems", "maxItems":
		return "Must have " + counted(schema.MinItems, schema.MaxItems, "entries") + "."
	case "minProperties":
		return "Must have at least one field."
	case "enum":
		return "Must be one of " + listed(schema.Enum) + "."
	case "pattern":
		return "Must match " + schema.Pattern + "."
	case "format":
		return "Must be a valid " + schema.Format + "."
	}
	return "Is not valid."
}

func article(types *openapi3.Types) string {
	switch {
	case types.Is(openapi3.TypeInteger):
		return "a whole number"
	case types.Is(openapi3.TypeNumber):
		return "a number"
	case types.Is(openapi3.TypeBoolean):
		return "true or false"
	case types.Is(openapi3.TypeArray):
		return "a list"
	case types.Is(openapi3.TypeObject):
		return "an object"
	}
	return "text"
}

func between(low, high *float64) string {
	switch {
	case low == nil:
		return fmt.Sprintf("at most %.0f", *high)
	case high == nil:
		return fmt.Sprintf("at least %.0f", *low)
	}
	return fmt.Sprintf("from %.0f to %.0f", *low, *high)
}

func counted(low uint64, high *uint64, unit string) string {
	switch {
	case high == nil:
		return fmt.Sprintf("at least %d %s", low, unit)
	case low == 0:
		return fmt.Sprintf("at most %d %s", *high, unit)
	}
	return fmt.Sprintf("%d to %d %s", low, *high, unit)
}

func listed(values []any) string {
	words := make([]string, len(values))
	for i, value := range values {
		words[i] = fmt.Sprint(value)
	}
	return strings.Join(words, ", ")
}

func pointerOf(path []string) string {
	var b strings.Builder
	for _, part := range path {
		b.WriteString("/" + escapePointer(part))
	}
	return b.String()
}

// escapePointer writes one step of a JSON pointer (RFC 6901).
func escapePointer(step string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(truncated(step, 200))
}

// pointed names the part of a request that a pointer means, as a person would.
func pointed(pointer string) string {
	if name, ok := strings.CutPrefix(pointer, "?"); ok {
		return "(parameter " + name + ")"
	}
	if pointer == "" {
		return "(the body itself)"
	}
	return "(" + pointer + ")"
}

func sortDetails(details []errs.Detail) {
	slices.SortStableFunc(details, func(a, b errs.Detail) int {
		return strings.Compare(a.Pointer+"\x00"+a.Detail, b.Pointer+"\x00"+b.Detail)
	})
}
