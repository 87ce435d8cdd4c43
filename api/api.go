// Package api holds the HTTP contract, openapi.yaml. Server types are generated from it into
// internal/httpapi/openapi and the Go client into api/client.
package api

import _ "embed"

//go:generate ../tools/run oapi-codegen -config server.oapi-codegen.yaml openapi.yaml
//go:generate ../tools/run oapi-codegen -config client.oapi-codegen.yaml openapi.yaml

// Spec returns openapi.yaml. The caller must not change it.
func Spec() []byte { return spec }

//go:embed openapi.yaml
var spec []byte
