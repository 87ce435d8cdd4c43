package devstack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/rs/zerolog"
)

func TestProfilesAreServedWhileItRuns(t *testing.T) {
	t.Parallel()
	log := &strings.Builder{}
	errOver := errors.New("over")
	var address string
	get := func(ctx context.Context) (string, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/debug/pprof/goroutine?debug=1", nil)
		if err != nil {
			return "", err
		}
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		response, err := client.Do(request)
		if err != nil {
			return "", err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		return fmt.Sprint(response.StatusCode, " ", string(body)), err
	}
	err := WithDebug(t.Context(), "127.0.0.1:0", zerolog.New(log), func(ctx context.Context) error {
		var line struct{ Address string }
		if err := json.Unmarshal([]byte(log.String()), &line); err != nil {
			t.Errorf("%v in %q", err, log)
		}
		address = line.Address
		if body, err := get(ctx); err != nil || !strings.HasPrefix(body, "200 goroutine profile: total") {
			t.Errorf("%v, %.100q", err, body)
		}
		return errOver
	})
	if !errors.Is(err, errOver) {
		t.Errorf("it ended with %v", err)
	}
	if body, err := get(t.Context()); err == nil {
		t.Errorf("after the end it still answers %.100q", body)
	}
}

func TestNoProfilesUnlessAsked(t *testing.T) {
	t.Parallel()
	log := &strings.Builder{}
	if err := WithDebug(t.Context(), "", zerolog.New(log), func(context.Context) error { return nil }); err != nil || log.Len() > 0 {
		t.Errorf("%v, and it logged %q", err, log)
	}
}
