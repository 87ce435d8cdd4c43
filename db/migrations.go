// Package db carries the schema's migrations, numbered pairs of up and down.
package db

import "embed"

// Migrations holds migrations/NNNNNN_name.up.sql and .down.sql.
//
//go:embed migrations/*.sql
var Migrations embed.FS
