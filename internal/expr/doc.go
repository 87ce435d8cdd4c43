// Package expr reads and evaluates the language of GitHub Actions' `${{ }}`: literals, the
// operators ! < <= > >= == != && ||, grouping, property and index access, the filter `.*`,
// and calls of a fixed set of functions.
//
// Values are those of JSON: nil, bool, float64, string, []any and map[string]any. As on
// GitHub, what does not exist is null, operands of different types are compared as numbers,
// strings are compared without regard to case, and && and || return one of their operands.
// Documented differences: numbers are printed with all their digits, and objects print
// their keys in sorted order.
//
// There are no loops, and an evaluation is bounded in depth, in the size of each value and
// in the work it does, so it always ends soon. Positions are byte offsets in the text that
// was given; who knows the file adds its own.
package expr
