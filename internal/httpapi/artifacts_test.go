package httpapi

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"foundry/internal/artifact"
	"foundry/internal/execution"
	"foundry/internal/httpapi/openapi"
)

func paths(p openapi.ArtifactPage) (list []string) {
	for _, a := range p.Data {
		list = append(list, a.Path)
	}
	return list
}

func TestListArtifacts(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.workflow(t, "hello")
	id := b.started(t, "hello")
	first, second := b.nodeRun(t, id, "greet", 0, 1), b.nodeRun(t, id, "train", 3, 2)
	b.artifact(t, first, 0, "a.txt", "a")
	b.artifact(t, first, 0, "sub/b.txt", "")
	b.artifact(t, second, 7, "gen-7/model", "weights")
	hidden := b.artifact(t, second, 8, "gen-8/model", "unfinished")
	b.exec(t, "UPDATE artifacts SET state = 'stored' WHERE id = $1", hidden)

	all := get[openapi.ArtifactPage](t, b, executionPath(id, "/artifacts"))
	if got := paths(all); !slices.Equal(got, []string{"a.txt", "sub/b.txt", "gen-7/model"}) || all.NextCursor != nil {
		t.Fatalf("listed %q", got)
	}
	a := all.Data[0]
	sum := sha256.Sum256([]byte("a"))
	if a.Kind != "artifact" || a.Node != "greet" || a.Index != 0 || a.Attempt != 1 || a.NodeRunID != first.id || a.ExecutionID != id || a.Checkpoint != nil ||
		a.Size != 1 || a.Sha256 != hex.EncodeToString(sum[:]) || a.Executable || a.CreatedAt.IsZero() {
		t.Errorf("the first is %+v", a)
	}
	if c := all.Data[2]; c.Kind != "checkpoint" || c.Index != 3 || c.Attempt != 2 || c.Checkpoint == nil || *c.Checkpoint != 7 {
		t.Errorf("the checkpoint is %+v", c)
	}
	if one := get[openapi.Artifact](t, b, executionPath(id, "/artifacts/"+a.ID.String())); one != a {
		t.Errorf("by id: %+v", one)
	}
	for query, want := range map[string][]string{
		"?kind=checkpoint": {"gen-7/model"}, "?kind=artifact": {"a.txt", "sub/b.txt"}, "?node=greet": {"a.txt", "sub/b.txt"}, "?node=nobody": nil,
	} {
		if got := paths(get[openapi.ArtifactPage](t, b, executionPath(id, "/artifacts"+query))); !slices.Equal(got, want) {
			t.Errorf("%s lists %q, want %q", query, got, want)
		}
	}
	var paged []string
	for query := "?limit=1"; query != ""; {
		p := get[openapi.ArtifactPage](t, b, executionPath(id, "/artifacts"+query))
		paged = append(paged, paths(p)...)
		query = ""
		if p.NextCursor != nil {
			query = "?limit=1&cursor=" + *p.NextCursor
		}
	}
	if !slices.Equal(paged, paths(all)) {
		t.Errorf("page by page: %q", paged)
	}
	for _, path := range []string{"/artifacts/" + hidden.String(), "/artifacts/" + hidden.String() + "/content", "/artifacts/" + uuid.NewString()} {
		wantProblem(t, b.call(t, http.MethodGet, executionPath(id, path), nil), http.StatusNotFound, "not_found")
	}
	other := b.started(t, "hello")
	wantProblem(t, b.call(t, http.MethodGet, executionPath(other, "/artifacts/"+a.ID.String()+"/content"), nil), http.StatusNotFound, "not_found")
}

func TestArtifactsOfReusedNodeRuns(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.workflow(t, "hello")
	earlier, rerun := b.started(t, "hello"), b.started(t, "hello")
	old := b.nodeRun(t, earlier, "greet", 2, 5)
	file := b.artifact(t, old, 0, "kept.txt", "kept")
	now := b.nodeRun(t, rerun, "greet", 2, 5)
	b.exec(t, "UPDATE node_runs SET reused_from = $2, status = 'completed', finished_at = now() WHERE id = $1", now.id, old.id)
	list := get[openapi.ArtifactPage](t, b, executionPath(rerun, "/artifacts")).Data
	if len(list) != 1 || list[0].ID != file || list[0].ExecutionID != earlier || list[0].Node != "greet" || list[0].Index != 2 || list[0].Attempt != 5 {
		t.Fatalf("the rerun has %+v", list)
	}
	if a := b.call(t, http.MethodGet, executionPath(rerun, "/artifacts/"+file.String()+"/content"), nil); string(a.body) != "kept" {
		t.Errorf("its content is %d %q", a.status, a.body)
	}
	b.exec(t, "DELETE FROM executions WHERE id = $1", earlier)
	if list := get[openapi.ArtifactPage](t, b, executionPath(rerun, "/artifacts")).Data; len(list) != 0 {
		t.Errorf("after the earlier one is gone: %+v", list)
	}
}

func TestArtifactContent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.workflow(t, "hello")
	id := b.started(t, "hello")
	content := make([]byte, 2*artifact.ChunkSize+100_000)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(content)
	r := b.nodeRun(t, id, "greet", 0, 1)
	file := b.artifact(t, r, 0, "sub/page.html", string(content))
	path := executionPath(id, "/artifacts/"+file.String()+"/content")
	sum := sha256.Sum256(content)
	tag := `"` + hex.EncodeToString(sum[:]) + `"`

	whole := b.call(t, http.MethodGet, path, nil)
	if whole.status != http.StatusOK || !bytes.Equal(whole.body, content) {
		t.Fatalf("%d with %d bytes", whole.status, len(whole.body))
	}
	for name, want := range map[string]string{
		"Content-Type": "application/octet-stream", "Content-Disposition": "attachment; filename=page.html", "X-Content-Type-Options": "nosniff",
		"Content-Security-Policy": "default-src 'none'; sandbox", "ETag": tag, "Accept-Ranges": "bytes",
	} {
		if got := whole.header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	size := len(content)
	for asked, want := range map[string][2]int{
		"bytes=0-0": {0, 1}, "bytes=1048575-1048576": {artifact.ChunkSize - 1, artifact.ChunkSize + 1}, "bytes=-5": {size - 5, size},
		"bytes=1000000-": {1_000_000, size}, "bytes=2097152-99999999": {2 * artifact.ChunkSize, size},
	} {
		a := b.call(t, http.MethodGet, path, nil, "Range", asked, "If-Range", tag)
		if a.status != http.StatusPartialContent || !bytes.Equal(a.body, content[want[0]:want[1]]) ||
			a.header.Get("Content-Range") != fmt.Sprintf("bytes %d-%d/%d", want[0], want[1]-1, size) {
			t.Errorf("%s: %d with %d bytes, %s", asked, a.status, len(a.body), a.header.Get("Content-Range"))
		}
	}
	if a := b.call(t, http.MethodGet, path, nil, "Range", "bytes=0-0", "If-Range", `"other"`); a.status != http.StatusOK || len(a.body) != size {
		t.Errorf("another If-Range: %d with %d bytes", a.status, len(a.body))
	}
	if a := b.call(t, http.MethodGet, path, nil, "If-None-Match", tag); a.status != http.StatusNotModified || len(a.body) != 0 {
		t.Errorf("If-None-Match: %d with %d bytes", a.status, len(a.body))
	}
	wantProblem(t, b.call(t, http.MethodGet, path, nil, "Range", "bytes=99999999-"), http.StatusRequestedRangeNotSatisfiable, "range_not_satisfiable")
	wantProblem(t, b.call(t, http.MethodGet, path, nil, "Authorization", "Bearer fdy_wrong", "Range", "bytes=0-0"), http.StatusUnauthorized, "unauthorized")

	empty := b.artifact(t, r, 0, "leer ä\".txt", "")
	a := b.call(t, http.MethodGet, executionPath(id, "/artifacts/"+empty.String()+"/content"), nil)
	if a.status != http.StatusOK || len(a.body) != 0 || !strings.HasPrefix(a.header.Get("Content-Disposition"), "attachment; filename*=utf-8''leer%20") {
		t.Errorf("an empty one: %d, %q", a.status, a.header.Get("Content-Disposition"))
	}
	b.exec(t, "TRUNCATE artifact_chunks")
	wantProblem(t, b.call(t, http.MethodGet, path, nil), http.StatusGone, "expired")
}

func TestSummary(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.workflow(t, "hello")
	id := b.started(t, "hello")
	summary := func() answer { return b.call(t, http.MethodGet, executionPath(id, "/summary"), nil) }
	if a := summary(); a.status != http.StatusOK || len(a.body) != 0 {
		t.Fatalf("without any: %d %q", a.status, a.body)
	}
	for _, r := range []struct {
		key            string
		index, attempt int
		text           string
	}{{"zero", 0, 1, "failed"}, {"zero", 0, 2, "# Zero\n\n"}, {"fan", 0, 1, "none"}, {"fan", 1, 1, "one <b>"}, {"quiet", 0, 1, ""}} {
		b.exec(t, "UPDATE node_runs SET summary = NULLIF($2, '') WHERE id = $1", b.nodeRun(t, id, r.key, r.index, r.attempt).id, r.text)
	}
	a := summary()
	if want := "## zero\n\n# Zero\n\n## fan 0\n\nnone\n\n## fan 1\n\none <b>\n"; string(a.body) != want || a.header.Get("Content-Type") != "text/markdown; charset=utf-8" ||
		a.header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%q\nof type %q, want\n%q", a.body, a.header.Get("Content-Type"), want)
	}
	text := joinSummaries([]execution.NodeRun{{Key: "a", Summary: strings.Repeat("x", summaryMax/2)}, {Key: "b", Summary: strings.Repeat("y", summaryMax/2)}})
	if len(text) > summaryMax || !strings.HasSuffix(text, "up to 1 MiB.*\n") {
		t.Errorf("%d bytes, ending in %q", len(text), text[len(text)-50:])
	}
}
