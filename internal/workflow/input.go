package workflow

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"unicode/utf8"
)

// maxExact is the largest whole number up to which a float64 has all of them.
const maxExact = 1<<53 - 1

func (c *compiler) inputs(v *value) []Input {
	if !c.shaped(v, shapeMap) {
		return nil
	}
	var list []Input
	for _, e := range v.entries {
		if c.key(e) {
			in := Input{Name: e.key, Type: InputString}
			c.input(&in, e.value)
			list = append(list, in)
		}
	}
	return list
}

func (c *compiler) inputFields(in *Input) []field {
	return []field{
		{"type", func(v *value) {
			in.Type = InputType(c.word(v, string(InputString), string(InputInteger), string(InputNumber), string(InputBoolean), string(InputObject), string(InputArray)))
		}},
		{"description", func(v *value) { in.Description = c.prose(v) }},
		{"required", func(v *value) { in.Required = c.flag(v) }},
		{"default", func(v *value) { in.Default = v.data() }},
		{"enum", func(v *value) { in.Enum = c.enum(v) }},
		{"minimum", func(v *value) { in.Minimum = c.limit(v) }},
		{"maximum", func(v *value) { in.Maximum = c.limit(v) }},
		{"min-length", func(v *value) { in.MinLength = c.length(v) }},
		{"max-length", func(v *value) { in.MaxLength = c.length(v) }},
		{"pattern", func(v *value) { in.Pattern = c.pattern(v) }},
	}
}

func (c *compiler) input(in *Input, v *value) {
	before := c.errors
	c.object(v, c.inputFields(in))
	if v.shape != shapeMap || c.errors > before {
		return // what follows compares the parts, which are not all known
	}
	if c.limitsFit(in, v); c.errors > before {
		return
	}
	if e := v.entry("enum"); e != nil {
		for i, allowed := range in.Enum {
			typed := Input{Name: in.Name, Type: in.Type}
			if problem := typed.problem(allowed); problem != "" {
				c.fault(e.value.items[i].mark, e.value.items[i].path, "bad_value", "The allowed value "+problem, quoteHint(in, allowed))
			}
		}
	}
	e := v.entry("default")
	if e == nil {
		return
	}
	if e.value.shape == shapeNull {
		c.fault(e.value.mark, e.path, "bad_default", "The default is empty.", "Leave the key out for no default.")
	} else if problem := in.problem(in.Default); problem != "" {
		c.fault(e.value.mark, e.path, "bad_default", "The default "+problem, quoteHint(in, in.Default))
	}
	if in.Required {
		c.warn(e.mark, e.path, "default_of_required", fmt.Sprintf("The input %q is required, so its default is never used.", in.Name), "Leave out required or default.")
	}
}

// quoteHint helps with strings that YAML takes for something else.
func quoteHint(in *Input, v any) string {
	switch v.(type) {
	case float64, bool:
		if in.Type == InputString {
			return "Put it in quotes."
		}
	}
	return ""
}

// limitsFit checks that limits belong to the type and are not upside down.
func (c *compiler) limitsFit(in *Input, v *value) {
	numeric := in.Type == InputInteger || in.Type == InputNumber
	sized := in.Type == InputString || in.Type == InputArray
	for _, rule := range []struct {
		key string
		ok  bool
	}{
		{"minimum", numeric},
		{"maximum", numeric},
		{"min-length", sized},
		{"max-length", sized},
		{"pattern", in.Type == InputString},
		{"enum", numeric || in.Type == InputString || in.Type == InputBoolean},
	} {
		if e := v.entry(rule.key); e != nil && !rule.ok {
			c.fault(e.mark, e.path, "wrong_type", fmt.Sprintf("The key %q says nothing about an input of type %s.", rule.key, in.Type), "")
		}
	}
	if in.Minimum != nil && in.Maximum != nil && *in.Minimum > *in.Maximum {
		e := v.entry("maximum")
		c.fault(e.value.mark, e.path, "out_of_range", "The maximum is below the minimum.", "")
	}
	if in.MinLength != nil && in.MaxLength != nil && *in.MinLength > *in.MaxLength {
		e := v.entry("max-length")
		c.fault(e.value.mark, e.path, "out_of_range", "The longest length is below the shortest.", "")
	}
}

func (c *compiler) enum(v *value) []any {
	if !c.shaped(v, shapeList) {
		return nil
	}
	if len(v.items) == 0 {
		c.fault(v.mark, v.path, "bad_value", "The list of allowed values is empty.", "")
	}
	list := make([]any, len(v.items))
	for i, item := range v.items {
		list[i] = item.data()
	}
	return list
}

func (c *compiler) limit(v *value) *float64 {
	if !c.shaped(v, shapeNumber) {
		return nil
	}
	return &v.number
}

func (c *compiler) length(v *value) *int {
	n := c.integer(v, 0, MaxInputs, -1)
	if n < 0 {
		return nil
	}
	return &n
}

func (c *compiler) pattern(v *value) *regexp.Regexp {
	if !c.shaped(v, shapeString) {
		return nil
	}
	re, err := regexp.Compile(v.text)
	if err != nil {
		c.fault(v.mark, v.path, "bad_pattern", fmt.Sprintf("%q is not a regular expression that Go's regexp package knows.", v.text), "There are no look-arounds and no back-references.")
		return nil
	}
	return re
}

// problem says what keeps v from being a value of the input, as the end of a sentence that
// begins with what v is; "" when nothing does.
func (in *Input) problem(v any) string {
	switch v := v.(type) {
	case string:
		if in.Type == InputString {
			return in.textProblem(v)
		}
	case float64:
		if in.Type == InputInteger || in.Type == InputNumber {
			return in.numberProblem(v)
		}
	case []any:
		if in.Type == InputArray {
			return in.lengthProblem(len(v), "item")
		}
	case bool:
		if in.Type == InputBoolean {
			return in.enumProblem(v)
		}
	case map[string]any:
		if in.Type == InputObject {
			return ""
		}
	}
	return fmt.Sprintf("must be %s, not %s.", articled(in.Type), typeOf(v))
}

func (in *Input) textProblem(v string) string {
	if in.Pattern != nil && !in.Pattern.MatchString(v) {
		return fmt.Sprintf("must match %s.", in.Pattern)
	}
	if problem := in.lengthProblem(utf8.RuneCountInString(v), "character"); problem != "" {
		return problem
	}
	return in.enumProblem(v)
}

func (in *Input) numberProblem(v float64) string {
	switch {
	case in.Type == InputInteger && v != math.Trunc(v):
		return fmt.Sprintf("must be a whole number, not %v.", v)
	case in.Type == InputInteger && math.Abs(v) > maxExact:
		return fmt.Sprintf("must be a whole number from -%d to %d.", maxExact, maxExact)
	case in.Minimum != nil && v < *in.Minimum:
		return fmt.Sprintf("must be at least %v, not %v.", *in.Minimum, v)
	case in.Maximum != nil && v > *in.Maximum:
		return fmt.Sprintf("must be at most %v, not %v.", *in.Maximum, v)
	}
	return in.enumProblem(v)
}

func (in *Input) lengthProblem(n int, unit string) string {
	switch {
	case in.MinLength != nil && n < *in.MinLength:
		return fmt.Sprintf("must have at least %s, not %d.", counted(*in.MinLength, unit), n)
	case in.MaxLength != nil && n > *in.MaxLength:
		return fmt.Sprintf("must have at most %s, not %d.", counted(*in.MaxLength, unit), n)
	}
	return ""
}

func counted(n int, unit string) string {
	if n == 1 {
		return "1 " + unit
	}
	return fmt.Sprintf("%d %ss", n, unit)
}

// enumProblem compares strings, numbers and booleans with the allowed ones.
func (in *Input) enumProblem(v any) string {
	if in.Enum == nil || slices.Contains(in.Enum, v) {
		return ""
	}
	return fmt.Sprintf("must be one of %s.", listed(in.Enum))
}

func articled(t InputType) string {
	switch t {
	case InputInteger, InputObject, InputArray:
		return "an " + string(t)
	case InputString, InputNumber, InputBoolean:
	}
	return "a " + string(t)
}

// typeOf names the type of a value as the types of inputs are named.
func typeOf(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case string:
		return articled(InputString)
	case float64:
		return articled(InputNumber)
	case bool:
		return articled(InputBoolean)
	case []any:
		return articled(InputArray)
	}
	return articled(InputObject)
}
