package expr

import (
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// filtered is the result of `.*`: an array on which an access means an access to each item.
type filtered []any

// plain turns the filtered array, which only exists between accesses, into an array.
func plain(v Value) Value {
	if f, ok := v.(filtered); ok {
		return []any(f)
	}
	return v
}

// Truthy reports whether a condition with this value holds: all but false, 0, NaN, "" and
// null.
func Truthy(v Value) bool {
	switch v := v.(type) {
	case nil:
		return false
	case bool:
		return v
	case float64:
		return v != 0 && !math.IsNaN(v)
	case string:
		return v != ""
	}
	return true
}

func primitive(v Value) bool {
	switch v.(type) {
	case nil, bool, float64, string:
		return true
	}
	return false
}

// String converts a value as in text: null is "", objects and arrays are "Object" and
// "Array".
func String(v Value) string { return toString(v) }

func toString(v Value) string {
	switch v := v.(type) {
	case nil:
		return ""
	case bool:
		return strconv.FormatBool(v)
	case float64:
		return formatNumber(v)
	case string:
		return v
	case []any, filtered:
		return "Array"
	}
	return "Object"
}

// formatNumber prints all digits; only from 1e21 on with an exponent, as JavaScript does.
func formatNumber(n float64) string {
	switch {
	case math.IsInf(n, 1):
		return infinity
	case math.IsInf(n, -1):
		return "-" + infinity
	case n == 0:
		return "0" // also for -0
	case math.Abs(n) >= 1e21 || math.Abs(n) < 1e-6:
		return strconv.FormatFloat(n, 'g', -1, 64)
	}
	return strconv.FormatFloat(n, 'f', -1, 64)
}

func toNumber(v Value) float64 {
	switch v := v.(type) {
	case nil:
		return 0
	case bool:
		if v {
			return 1
		}
		return 0
	case float64:
		return v
	case string:
		text := strings.TrimSpace(v)
		if text == "" {
			return 0
		}
		if n, ok := parseNumber(text); ok {
			return n
		}
	}
	return math.NaN()
}

// coerce makes two primitives of different types comparable: as numbers.
func coerce(a, b Value) (Value, Value) {
	if !primitive(a) || !primitive(b) || reflect.TypeOf(a) == reflect.TypeOf(b) {
		return a, b
	}
	return toNumber(a), toNumber(b)
}

// equal is the operator ==.
func equal(a, b Value) bool {
	a, b = coerce(plain(a), plain(b))
	switch x := a.(type) {
	case nil:
		return b == nil
	case bool:
		y, ok := b.(bool)
		return ok && x == y
	case float64:
		y, ok := b.(float64)
		return ok && x == y
	case string:
		y, ok := b.(string)
		return ok && fold(x) == fold(y)
	}
	return same(a, b)
}

// same compares arrays and objects, which are equal only to themselves.
func same(a, b Value) bool {
	x, y := reflect.ValueOf(a), reflect.ValueOf(b)
	if !y.IsValid() || x.Type() != y.Type() {
		return false
	}
	return x.Len() == y.Len() && x.UnsafePointer() == y.UnsafePointer()
}

// less is the operator <; null, arrays and objects have no order.
func less(a, b Value) bool {
	a, b = coerce(plain(a), plain(b))
	switch x := a.(type) {
	case bool:
		y, ok := b.(bool)
		return ok && !x && y
	case float64:
		y, ok := b.(float64)
		return ok && x < y
	case string:
		y, ok := b.(string)
		return ok && fold(x) < fold(y)
	}
	return false
}

// fold is the form in which strings are compared.
func fold(s string) string { return strings.ToUpper(s) }

// property looks a name up in an object: as written, else without regard to case, then the
// first in sorted order, so that the answer does not depend on the map.
func property(object map[string]any, name string) (Value, bool) {
	if v, ok := object[name]; ok {
		return v, true
	}
	found, folded := "", fold(name)
	ok := false
	for key := range object {
		if (!ok || key < found) && fold(key) == folded {
			found, ok = key, true
		}
	}
	return object[found], ok
}

// access is `of[key]`, false where there is no such thing.
func access(of, key Value) (Value, bool) {
	switch of := of.(type) {
	case map[string]any:
		if primitive(key) {
			return property(of, toString(key))
		}
	case []any:
		if n := math.Floor(toNumber(key)); n >= 0 && n < float64(len(of)) {
			return of[int(n)], true
		}
	}
	return nil, false
}

// items are the values of an array or object, of objects in the order of their keys.
func items(v Value) []any {
	switch v := v.(type) {
	case []any:
		return v
	case map[string]any:
		list := make([]any, 0, len(v))
		for _, key := range sortedKeys(v) {
			list = append(list, v[key])
		}
		return list
	}
	return nil
}

func sortedKeys(object map[string]any) []string {
	keys := make([]string, 0, len(object))
	for key := range object {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
