package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"foundry/internal/lifecycle"
)

// client speaks with whichever control plane answers.
type client struct {
	urls  []string
	token string
	http  *http.Client
}

// call makes one attempt. The error says that no answer came; answer gets the body of a success.
func (c *client) call(ctx context.Context, method, path string, header map[string]string, body, answer any) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	content := io.Reader(http.NoBody)
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return 0, err
		}
		content = bytes.NewReader(text)
	}
	url := c.urls[rand.IntN(len(c.urls))]
	req, err := http.NewRequestWithContext(ctx, method, url+"/api/v1"+path, content)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for name, value := range header {
		req.Header.Set(name, value)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	if resp.StatusCode/100 == 2 && answer != nil {
		if err := json.Unmarshal(text, answer); err != nil {
			return 0, fmt.Errorf("%s %s: %w in %.200q", method, path, err, text)
		}
	}
	if resp.StatusCode/100 == 4 && resp.StatusCode != http.StatusConflict {
		return resp.StatusCode, fmt.Errorf("%s %s: %d %.300s", method, path, resp.StatusCode, text)
	}
	return resp.StatusCode, nil
}

// insist makes attempts until one succeeds or is refused for good. Requests are such that repeating them is harmless.
func (c *client) insist(ctx context.Context, method, path string, header map[string]string, body, answer any) (int, error) {
	for {
		status, err := c.call(ctx, method, path, header, body, answer)
		if status/100 == 2 || status/100 == 4 && status != http.StatusTooManyRequests {
			return status, err
		}
		if !lifecycle.Sleep(ctx, 100*time.Millisecond) {
			return status, fmt.Errorf("%s %s: given up with %d: %w", method, path, status, err)
		}
	}
}
