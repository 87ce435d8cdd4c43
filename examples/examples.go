// Package examples holds workflows that run as they stand. They are embedded, so that
// `foundry dev` has one to show wherever it is started.
package examples

import "embed"

// Files has the workflows and, beside each, what its `files` name.
//
//go:embed *.yaml report
var Files embed.FS
