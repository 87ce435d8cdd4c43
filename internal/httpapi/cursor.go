package httpapi

import (
	"encoding/base64"
	"strings"

	"foundry/internal/errs"
)

const (
	pageDefault = 50
	eventsMax   = 1000
)

// A cursor is the key of the last entry of a page behind the name of its list, so that a cursor of another
// list is refused. People are told that it is opaque.
type list string

const (
	listWorkflows   list = "w"
	listVersions    list = "v"
	listExecutions  list = "e"
	listSandboxes   list = "s"
	listTokens      list = "t"
	listMembers     list = "m"
	listInvitations list = "i"
	listAudit       list = "a"
	listArtifacts   list = "f"
)

func (l list) encode(key string) *string {
	return new(base64.RawURLEncoding.EncodeToString([]byte(string(l) + ":" + key)))
}

// decode returns "" for no cursor.
func (l list) decode(cursor *string) (key string, err error) {
	if cursor == nil {
		return "", nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(*cursor)
	if key, ok := strings.CutPrefix(string(raw), string(l)+":"); err == nil && ok && key != "" {
		return key, nil
	}
	return "", invalidCursor()
}

func invalidCursor() error {
	return errs.E(errs.Invalid, "The cursor is not one of this list.").With("?cursor", "Must be the next_cursor of a page of this list.")
}

// page cuts what was read with a limit of one more than asked, and makes the cursor of the next page: nil at the end.
func page[T any](l list, entries []T, limit int, key func(T) string) ([]T, *string) {
	if len(entries) <= limit {
		return entries, nil
	}
	entries = entries[:limit]
	return entries, l.encode(key(entries[limit-1]))
}
