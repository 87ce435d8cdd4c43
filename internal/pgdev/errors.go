package pgdev

import (
	"errors"

	"github.com/jackc/pgx/v5/pgconn"
)

// isDuplicate reports that somebody else has created the database: 42P04, or 23505 when
// both were at it at the same instant.
func isDuplicate(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (pg.Code == "42P04" || pg.Code == "23505")
}
