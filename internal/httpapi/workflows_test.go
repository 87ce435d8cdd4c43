package httpapi

import (
	"bytes"
	"fmt"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"testing"

	"foundry/internal/httpapi/openapi"
)

func TestCreateWorkflow(t *testing.T) {
	t.Parallel()
	b := setup(t)
	path := apiPrefix + "/workflows"

	t.Run("makes the slug from the name", func(t *testing.T) {
		t.Parallel()
		a := b.call(t, http.MethodPost, path, map[string]any{"source": helloText})
		w := decode[openapi.Workflow](t, a, http.StatusCreated)
		if w.Slug != "hello" || w.Name != "Hello" || w.Version != 1 || w.ID.Version() != 7 || w.CreatedAt.IsZero() {
			t.Errorf("created %+v", w)
		}
		if got := a.header.Get("Location"); got != "/api/v1/workflows/hello" {
			t.Errorf("Location is %q", got)
		}
		for _, ref := range []string{"hello", w.ID.String()} {
			if got := get[openapi.Workflow](t, b, path+"/"+ref); got != w {
				t.Errorf("by %s: %+v, want %+v", ref, got, w)
			}
		}
	})
	t.Run("takes the slug that was chosen, once", func(t *testing.T) {
		t.Parallel()
		if w := b.workflow(t, "my-own"); w.Slug != "my-own" {
			t.Errorf("slug %q", w.Slug)
		}
		p := wantProblem(t, b.call(t, http.MethodPost, path, map[string]any{"source": helloText, "slug": "my-own"}), http.StatusConflict, "conflict")
		if !strings.Contains(p.Detail, `"my-own"`) {
			t.Errorf("the detail does not name the slug: %q", p.Detail)
		}
	})
	t.Run("refuses a faulty text with its positions", func(t *testing.T) {
		t.Parallel()
		text := "name: Broken\nnodes:\n  a:\n    needs: [b]\n    run: echo\n  c:\n    rnu: echo\n"
		p := wantProblem(t, b.call(t, http.MethodPost, path, map[string]any{"source": text}), http.StatusUnprocessableEntity, "workflow_invalid")
		if len(p.Diagnostics) < 2 || p.Diagnostics[0].Line != 4 || p.Diagnostics[0].Column == 0 || p.Diagnostics[0].Message == "" || p.Diagnostics[0].Code == "" {
			t.Errorf("diagnostics %+v", p.Diagnostics)
		}
	})
	t.Run("refuses what no database can hold", func(t *testing.T) {
		t.Parallel()
		for _, text := range []string{"name: a\u0000b\nnodes: {a: {run: echo}}\n", "name: \"a\\0b\"\nnodes: {a: {run: echo}}\n"} {
			a := b.call(t, http.MethodPost, path, map[string]any{"source": text, "slug": "nul"})
			if a.status >= 500 {
				t.Errorf("%q gave %d: %s", text, a.status, a.body)
			}
		}
	})
	t.Run("wants a slug where the name gives none", func(t *testing.T) {
		t.Parallel()
		a := b.call(t, http.MethodPost, path, map[string]any{"source": "name: \"!!!\"\nnodes: {a: {run: echo}}\n"})
		if a.status != http.StatusCreated { // a package may have a slug for every name
			wantPointers(t, wantProblem(t, a, http.StatusUnprocessableEntity, "validation"), "/slug")
		}
	})
}

func TestMalformedBodies(t *testing.T) {
	t.Parallel()
	b := setup(t)
	path := apiPrefix + "/workflows"
	for name, c := range map[string]struct {
		body     string
		media    string
		status   int
		code     string
		pointers []string
		says     string
	}{
		"no JSON":            {body: "{\"source\": \"x\",\n  oops}", status: 400, code: "invalid", says: "line 2, column 3"},
		"cut":                {body: `{"source": "x`, status: 400, code: "invalid"},
		"two values":         {body: `{"source": "x"} {}`, status: 400, code: "invalid"},
		"nothing":            {body: ``, status: 400, code: "invalid"},
		"not UTF-8":          {body: "{\"source\": \"\xff\"}", status: 400, code: "invalid", says: "UTF-8"},
		"a list":             {body: `[]`, status: 422, code: "validation", pointers: []string{""}, says: "an object"},
		"null":               {body: `null`, status: 422, code: "validation", pointers: []string{""}},
		"unknown field":      {body: `{"source": "x", "sorce": 1, "a/b": 2}`, status: 422, code: "validation", pointers: []string{"/a~1b", "/sorce"}},
		"other case":         {body: `{"Source": "x"}`, status: 422, code: "validation", pointers: []string{"/Source", "/source"}},
		"missing field":      {body: `{}`, status: 422, code: "validation", pointers: []string{"/source"}, says: "missing"},
		"wrong type":         {body: `{"source": 7}`, status: 422, code: "validation", pointers: []string{"/source"}, says: "text"},
		"empty text":         {body: `{"source": ""}`, status: 422, code: "validation", pointers: []string{"/source"}},
		"bad slug":           {body: `{"source": "x", "slug": "No Slug"}`, status: 422, code: "validation", pointers: []string{"/slug"}},
		"wrong type inside":  {body: `{"source": "x", "files": [{"path": "a", "executable": "yes"}]}`, status: 422, code: "validation", pointers: []string{"/files/0/executable"}},
		"missing inside":     {body: `{"source": "x", "files": [{"path": "a"}, {}]}`, status: 422, code: "validation", pointers: []string{"/files/1/path"}},
		"a path twice":       {body: `{"source": "x", "files": [{"path": "a"}, {"path": "a"}]}`, status: 422, code: "validation", pointers: []string{"/files/1/path"}},
		"text and base64":    {body: `{"source": "x", "files": [{"path": "a", "text": "a", "base64": "YQ=="}]}`, status: 422, code: "validation", pointers: []string{"/files/0"}},
		"bad base64":         {body: `{"source": "x", "files": [{"path": "a", "base64": "?"}]}`, status: 422, code: "validation", pointers: []string{"/files/0/base64"}},
		"another media type": {body: `source=x`, media: "application/x-www-form-urlencoded", status: 415, code: "unsupported_media_type", says: "application/json"},
		"no media type":      {body: `{}`, media: "-", status: 415, code: "unsupported_media_type"},
		"too large":          {body: `{"source": "` + strings.Repeat("x", 1<<20) + `"}`, status: 413, code: "too_large", says: "1 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			headers := []string{}
			if c.media != "" {
				headers = []string{"Content-Type", strings.TrimPrefix(c.media, "-")}
			}
			p := wantProblem(t, b.call(t, http.MethodPost, path, c.body, headers...), c.status, c.code)
			wantPointers(t, p, c.pointers...)
			if said := p.Detail + fmt.Sprint(p.Errors); !strings.Contains(said, c.says) {
				t.Errorf("%q does not say %q", said, c.says)
			}
		})
	}
}

func TestJSONIsReadHoweverItsTypeIsWritten(t *testing.T) {
	t.Parallel()
	b := setup(t)
	a := b.call(t, http.MethodPost, apiPrefix+"/workflows", map[string]any{"source": helloText}, "Content-Type", "Application/JSON; Charset=UTF-8")
	decode[openapi.Workflow](t, a, http.StatusCreated)
}

const filesText = `name: With files
files: { bin/run.sh: ./run.sh, data.bin: ./data.bin, empty: ./empty }
nodes:
  a: { run: ./bin/run.sh }
`

var wantFiles = []openapi.FileInfo{ //nolint:gochecknoglobals // what two tests expect
	{Path: "bin/run.sh", Size: 10, Executable: true}, {Path: "data.bin", Size: 4}, {Path: "empty", Size: 0},
}

func (b *testBundle) wantVersionFiles(t *testing.T, slug string, number int) {
	t.Helper()
	v := get[openapi.Version](t, b, fmt.Sprintf("%s/workflows/%s/versions/%d", apiPrefix, slug, number))
	if !slices.Equal(v.Files, wantFiles) {
		t.Errorf("files %+v, want %+v", v.Files, wantFiles)
	}
	if v.Source != filesText || v.Version != number || v.Grammar != 1 || v.CreatedAt.IsZero() {
		t.Errorf("version %+v", v)
	}
	var content []byte
	if err := b.pool.QueryRow(t.Context(), "SELECT content FROM workflow_files WHERE path = 'data.bin' AND version = $1", number).Scan(&content); err != nil {
		t.Fatal(err)
	}
	if string(content) != "\x00\xff\r\n" {
		t.Errorf("the bytes of a file became %q", content)
	}
}

func TestFilesAsJSON(t *testing.T) {
	t.Parallel()
	b := setup(t)
	files := []any{
		map[string]any{"path": "bin/run.sh", "executable": true, "text": "#!/bin/sh\n"},
		map[string]any{"path": "data.bin", "base64": "AP8NCg=="},
		map[string]any{"path": "empty"},
	}
	post[openapi.Workflow](t, b, apiPrefix+"/workflows", map[string]any{"source": filesText, "slug": "files", "files": files}, http.StatusCreated)
	b.wantVersionFiles(t, "files", 1)

	t.Run("a file that the text lists must come", func(t *testing.T) {
		t.Parallel()
		body := map[string]any{"source": filesText, "files": files[:2]}
		p := wantProblem(t, b.call(t, http.MethodPost, apiPrefix+"/workflows/files/versions", body), http.StatusUnprocessableEntity, "workflow_invalid")
		if len(p.Diagnostics) != 1 || p.Diagnostics[0].Line != 2 || !strings.Contains(p.Diagnostics[0].Message, "empty") {
			t.Errorf("diagnostics %+v", p.Diagnostics)
		}
	})
	t.Run("a file that it does not list may not", func(t *testing.T) {
		t.Parallel()
		body := map[string]any{"source": helloText, "files": files}
		p := wantProblem(t, b.call(t, http.MethodPost, apiPrefix+"/workflows/files/versions", body), http.StatusUnprocessableEntity, "workflow_invalid")
		if len(p.Diagnostics) != 3 {
			t.Errorf("diagnostics %+v", p.Diagnostics)
		}
	})
}

// form writes a multipart body of parts (disposition parameters, content).
func form(t *testing.T, parts ...[2]string) (body []byte, contentType string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for _, part := range parts {
		header := textproto.MIMEHeader{"Content-Disposition": {"form-data; " + part[0]}}
		to, err := w.CreatePart(header)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = to.Write([]byte(part[1])) // into memory
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), w.FormDataContentType()
}

func TestFilesAsForm(t *testing.T) {
	t.Parallel()
	b := setup(t)
	parts := [][2]string{
		{`name="executable"`, "bin/run.sh"},
		{`name="files"; filename="bin/run.sh"`, "#!/bin/sh\n"},
		{`name="files"; filename="data.bin"`, "\x00\xff\r\n"},
		{`name="files"; filename="empty"`, ""},
		{`name="source"; filename="workflow.yaml"`, filesText},
	}
	body, contentType := form(t, append(parts, [2]string{`name="slug"`, "files"})...)
	decode[openapi.Workflow](t, b.call(t, http.MethodPost, apiPrefix+"/workflows", body, "Content-Type", contentType), http.StatusCreated)
	b.wantVersionFiles(t, "files", 1)

	body, contentType = form(t, parts...)
	v := decode[openapi.VersionCreated](t, b.call(t, http.MethodPost, apiPrefix+"/workflows/files/versions", body, "Content-Type", contentType), http.StatusCreated)
	b.wantVersionFiles(t, "files", v.Version)
}

func TestMalformedForms(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.workflow(t, "hello")
	source := [2]string{`name="source"`, helloText}
	for name, c := range map[string]struct {
		parts   [][2]string
		status  int
		code    string
		pointer string
	}{
		"no source":       {nil, 422, "validation", "/source"},
		"source twice":    {[][2]string{source, source}, 422, "validation", "/source"},
		"unknown field":   {[][2]string{source, {`name="extra"`, "x"}}, 422, "validation", "/extra"},
		"slug of version": {[][2]string{source, {`name="slug"`, "x"}}, 422, "validation", "/slug"},
		"no file name":    {[][2]string{source, {`name="files"`, "x"}}, 422, "validation", "/files"},
		"path twice":      {[][2]string{source, {`name="files"; filename="a"`, "x"}, {`name="files"; filename="a"`, "y"}}, 422, "validation", "/files"},
		"long path":       {[][2]string{source, {`name="files"; filename="` + strings.Repeat("a", 1025) + `"`, "x"}}, 422, "validation", "/files"},
		"not executable":  {[][2]string{source, {`name="executable"`, "nothing"}}, 422, "validation", "/executable"},
		"long executable": {[][2]string{source, {`name="executable"`, strings.Repeat("x", 5000)}}, 422, "validation", "/executable"},
		"too large":       {[][2]string{source, {`name="files"; filename="a"`, strings.Repeat("x", 12<<20)}}, 413, "too_large", ""},
		"long source":     {[][2]string{{`name="source"`, strings.Repeat("x", 300<<10)}}, 422, "workflow_invalid", ""},
		"odd source":      {[][2]string{{`name="source"`, "name: \xff\x00"}}, 422, "workflow_invalid", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body, contentType := form(t, c.parts...)
			p := wantProblem(t, b.call(t, http.MethodPost, apiPrefix+"/workflows/hello/versions", body, "Content-Type", contentType), c.status, c.code)
			if c.pointer != "" {
				wantPointers(t, p, c.pointer)
			}
		})
	}
	t.Run("cut", func(t *testing.T) {
		t.Parallel()
		body, contentType := form(t, source)
		a := b.call(t, http.MethodPost, apiPrefix+"/workflows/hello/versions", body[:len(body)-20], "Content-Type", contentType)
		wantProblem(t, a, http.StatusBadRequest, "invalid")
	})
	t.Run("without a boundary", func(t *testing.T) {
		t.Parallel()
		a := b.call(t, http.MethodPost, apiPrefix+"/workflows/hello/versions", "x", "Content-Type", "multipart/form-data")
		wantProblem(t, a, http.StatusBadRequest, "invalid")
	})
}

func TestValidateWorkflow(t *testing.T) {
	t.Parallel()
	b := setup(t)
	path := apiPrefix + "/workflows/validate"
	if v := post[openapi.Validation](t, b, path, map[string]any{"source": helloText}, http.StatusOK); !v.Valid || len(v.Diagnostics) != 0 {
		t.Errorf("a good text gave %+v", v)
	}
	v := post[openapi.Validation](t, b, path, map[string]any{"source": "nodes:\n  a:\n    runn: echo\n"}, http.StatusOK)
	if v.Valid || len(v.Diagnostics) == 0 || v.Diagnostics[0].Line == 0 || v.Diagnostics[0].Severity != openapi.Error {
		t.Errorf("a faulty text gave %+v", v)
	}
	if v := post[openapi.Validation](t, b, path, map[string]any{"source": ""}, http.StatusOK); v.Valid {
		t.Error("an empty text is valid")
	}
	b.workflow(t, "validate") // the address of a workflow with this slug is another one
	if w := get[openapi.Workflow](t, b, path); w.Slug != "validate" {
		t.Errorf("GET gave %+v", w)
	}
}

func TestVersions(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.workflow(t, "hello")
	path := apiPrefix + "/workflows/hello/versions"
	for n := 2; n <= 7; n++ {
		text := strings.Replace(helloText, "name: Hello", fmt.Sprintf("name: Hello %d", n), 1)
		a := b.call(t, http.MethodPost, path, map[string]any{"source": text})
		if v := decode[openapi.VersionCreated](t, a, http.StatusCreated); v.Version != n {
			t.Fatalf("version %d, want %d", v.Version, n)
		}
		if want := fmt.Sprintf("/api/v1/workflows/hello/versions/%d", n); a.header.Get("Location") != want {
			t.Errorf("Location is %q, want %q", a.header.Get("Location"), want)
		}
	}
	w := get[openapi.Workflow](t, b, apiPrefix+"/workflows/hello")
	if w.Name != "Hello 7" || w.Version != 7 || !w.UpdatedAt.After(w.CreatedAt) {
		t.Errorf("workflow %+v", w)
	}
	var numbers []int
	for cursor := ""; ; {
		p := get[openapi.VersionPage](t, b, path+"?limit=3"+cursor)
		for _, v := range p.Data {
			numbers = append(numbers, v.Version)
		}
		if p.NextCursor == nil {
			break
		}
		cursor = "&cursor=" + *p.NextCursor
	}
	if !slices.Equal(numbers, []int{7, 6, 5, 4, 3, 2, 1}) {
		t.Errorf("versions %v", numbers)
	}
	if v := get[openapi.Version](t, b, path+"/1"); v.Source != helloText || len(v.Files) != 0 {
		t.Errorf("version 1 is %+v", v)
	}
	for _, number := range []string{"8", "0", "-1", "x", "1.5", "99999999999999999999"} {
		wantProblem(t, b.call(t, http.MethodGet, path+"/"+number, nil), http.StatusNotFound, "not_found")
	}
	wantProblem(t, b.call(t, http.MethodPost, apiPrefix+"/workflows/nobody/versions", map[string]any{"source": helloText}), http.StatusNotFound, "not_found")
	wantProblem(t, b.call(t, http.MethodGet, apiPrefix+"/workflows/nobody/versions", nil), http.StatusNotFound, "not_found")
}

func TestListWorkflowsHasNoDuplicatesOrGaps(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var want, got []string
	for i := range 11 {
		slug := fmt.Sprintf("w%02d", i)
		b.workflow(t, slug)
		want = append(want, slug)
	}
	for cursor := ""; ; {
		p := get[openapi.WorkflowPage](t, b, apiPrefix+"/workflows?limit=5"+cursor)
		for _, w := range p.Data {
			got = append(got, w.Slug)
		}
		if len(got) == 5 {
			b.workflow(t, "a-late-one") // before what was read: must not shift the next page
		}
		if p.NextCursor == nil {
			break
		}
		cursor = "&cursor=" + *p.NextCursor
	}
	if !slices.Equal(got, want) {
		t.Errorf("read %v, want %v", got, want)
	}
}
