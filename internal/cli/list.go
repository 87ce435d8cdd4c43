package cli

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
)

// pageLimit is the most entries in a page of a list.
const pageLimit = 200

// list is a page of the API; one that is whole has no cursor.
type list[T any] struct {
	Data       []T     `json:"data"`
	NextCursor *string `json:"next_cursor"`
}

// whole reads all pages of a list and returns them as one.
func whole[T any](ctx context.Context, a *app, resource string) (list[T], error) {
	all := list[T]{Data: []T{}}
	s, err := a.connect()
	if err != nil {
		return all, err
	}
	defer s.close()
	query := url.Values{"limit": {strconv.Itoa(pageLimit)}}
	for more := true; more; more = query.Has("cursor") {
		var page list[T]
		if _, err := s.call(ctx, request{method: http.MethodGet, path: []string{resource}, query: query}, &page); err != nil {
			return all, err
		}
		all.Data = append(all.Data, page.Data...)
		query.Del("cursor")
		if page.NextCursor != nil {
			query.Set("cursor", *page.NextCursor)
		}
	}
	return all, nil
}
