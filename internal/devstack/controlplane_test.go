package devstack

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"foundry/internal/auth"
	"foundry/internal/pgtest"
	"foundry/internal/postgres"
)

// controlPlane runs one on the database and returns its URL.
func controlPlane(t *testing.T, database string) (url string) {
	t.Helper()
	listener, err := listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- ControlPlane{
			DatabaseURL: database, DirectURL: database, Listener: listener, Log: zerolog.Nop(), Environment: "staging", Drain: 10 * time.Second,
		}.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the control plane: %v", err)
		}
	})
	return "http://" + listener.Addr().String()
}

// TestRevokingReachesEveryControlPlane holds that a token that one process revokes is refused by another at once, and that the streams
// opened with it end there. Without the notification they would go on for a minute.
func TestRevokingReachesEveryControlPlane(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	accounts := auth.NewStore(pgtest.Open(t, database, postgres.Options{}))
	organization, err := accounts.EnsureOrganization(t.Context(), "acme", "Acme")
	if err != nil {
		t.Fatal(err)
	}
	var tokens [2]string
	for i, name := range []string{"stays", "goes"} {
		token, err := accounts.Create(t.Context(), organization, name, 0)
		if err != nil {
			t.Fatal(err)
		}
		tokens[i] = token.Reveal()
	}
	here, there := controlPlane(t, database), controlPlane(t, database)
	limited, cancel := context.WithCancel(t.Context())
	defer cancel()
	call := func(method, url, token string) (status int, body io.Reader) {
		t.Helper()
		request, err := http.NewRequestWithContext(limited, method, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+token)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { response.Body.Close() })
		return response.StatusCode, response.Body
	}
	var me struct {
		Environment string
		Token       struct{ ID string }
	}
	_, said := call(http.MethodGet, there+"/api/v1/me", tokens[1])
	if err := json.NewDecoder(said).Decode(&me); err != nil || me.Environment != "staging" {
		t.Fatalf("before, the other process says %+v (%v)", me, err)
	}
	_, stream := call(http.MethodGet, there+"/api/v1/events", tokens[1])
	lines := bufio.NewReader(stream)
	for line := ""; !strings.HasPrefix(line, "event: ready"); {
		if line, err = lines.ReadString('\n'); err != nil {
			t.Fatalf("waiting for the stream: %v", err)
		}
	}

	defer time.AfterFunc(50*time.Second, cancel).Stop()
	if status, _ := call(http.MethodDelete, here+"/api/v1/tokens/"+me.Token.ID, tokens[0]); status != http.StatusNoContent {
		t.Fatalf("revoking: %d", status)
	}
	if _, err := io.Copy(io.Discard, lines); err != nil {
		t.Errorf("the stream goes on in the other process: %v", err)
	}
	if status, _ := call(http.MethodGet, there+"/api/v1/me", tokens[1]); status != http.StatusUnauthorized {
		t.Errorf("the other process answers %d to the revoked token", status)
	}
	if status, _ := call(http.MethodGet, there+"/api/v1/me", tokens[0]); status != http.StatusOK {
		t.Errorf("the other process answers %d to another token", status)
	}
}
