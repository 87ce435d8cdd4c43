package httpapi

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"slices"
	"strings"

	"foundry/internal/errs"
	"foundry/internal/httpapi/openapi"
	"foundry/internal/workflow"
)

const (
	maxFileCount = 1000
	maxField     = 1024 // bytes of a slug or a path in a form
)

// submission is a workflow text with its files, however it was sent.
type submission struct {
	source string
	slug   string // "": none was sent
	files  []workflow.Content
}

// said is what the sender means, however it was sent.
func (s *submission) said() any {
	return []any{s.source, s.slug, s.files}
}

// compile checks the text, and that the files that came are those that it lists.
func (s *submission) compile() (*workflow.Definition, error) {
	def, diagnostics := workflow.Compile([]byte(s.source))
	if def != nil {
		sizes := make(map[string]int64, len(s.files))
		for _, f := range s.files {
			sizes[f.Path] = int64(len(f.Bytes))
		}
		diagnostics = append(diagnostics, workflow.CheckFiles(def, sizes)...)
	}
	if diagnostics.Failed() {
		return nil, &workflowError{diagnostics}
	}
	return def, nil
}

// submissionFrom reads the JSON form.
func submissionFrom(source, slug string, files []openapi.File) (*submission, error) {
	s := &submission{source: source, slug: slug}
	refused := errs.E(errs.Validation, "A file cannot be stored.")
	for i, f := range files {
		content := []byte(f.Text)
		if f.Base64 != nil {
			content = f.Base64
		}
		pointer := fmt.Sprintf("/files/%d", i)
		if f.Text != "" && f.Base64 != nil {
			refused = refused.With(pointer, "Has text and base64; send one of them.")
		}
		if s.has(f.Path) {
			refused = refused.With(pointer+"/path", "Is the path of an earlier file too.")
		}
		s.files = append(s.files, workflow.Content{Path: f.Path, Executable: f.Executable, Bytes: content})
	}
	return s, refusal(refused)
}

func (s *submission) has(path string) bool {
	return slices.ContainsFunc(s.files, func(f workflow.Content) bool { return f.Path == path })
}

// receive reads the multipart form: source, slug, files and executable, in any order. The body is bounded, and so is
// what is kept of it. A nil form is nil.
func receive(form *multipart.Reader, withSlug bool) (*submission, error) {
	if form == nil {
		return nil, errs.E(errs.Invalid, "The body is missing.")
	}
	s, executable, seen := &submission{}, []string(nil), map[string]bool{}
	for {
		part, err := form.NextRawPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, formError(err)
		}
		name := part.FormName()
		if name != "files" && name != "executable" && seen[name] {
			return nil, fieldError(name, "Was sent twice.")
		}
		seen[name] = true
		switch {
		case name == "source":
			s.source, err = field(part, name, workflow.MaxSource+1) // one more: the compiler says what is too much
		case name == "slug" && withSlug:
			s.slug, err = field(part, name, maxField)
		case name == "executable":
			path, fieldErr := field(part, name, maxField)
			executable, err = append(executable, path), fieldErr
		case name == "files":
			err = s.receiveFile(part)
		default:
			err = fieldError(truncated(name, 80), "There is no such field.")
		}
		if err != nil {
			return nil, err
		}
		if len(s.files) > maxFileCount || len(executable) > maxFileCount {
			return nil, errs.E(errs.TooLarge, "A version has at most %d files.", maxFileCount)
		}
	}
	if !seen["source"] {
		return nil, fieldError("source", "Is missing.")
	}
	return s, s.markExecutable(executable)
}

// field reads a text field. What is longer than limit bytes is refused, but for the source, which is cut.
func field(part *multipart.Part, name string, limit int64) (string, error) {
	text, err := io.ReadAll(io.LimitReader(part, limit))
	if err != nil {
		return "", formError(err)
	}
	if name != "source" && int64(len(text)) == limit {
		return "", fieldError(name, "Is too long.")
	}
	if name != "source" && !isText(string(text)) {
		return "", fieldError(name, "Must be text in UTF-8 without NUL.")
	}
	return string(text), nil
}

func (s *submission) receiveFile(part *multipart.Part) error {
	path := fileName(part)
	switch {
	case path == "":
		return fieldError("files", "A part has no file name, which is the file's path.")
	case !isText(path) || len(path) > maxField:
		return fieldError("files", "A file name is not text in UTF-8, or is too long.")
	case s.has(path):
		return fieldError("files", "Two files have the same path.")
	}
	content, err := io.ReadAll(part)
	if err != nil {
		return formError(err)
	}
	s.files = append(s.files, workflow.Content{Path: path, Bytes: content})
	return nil
}

// fileName returns the file name with its folders, which multipart.Part.FileName leaves out.
func fileName(part *multipart.Part) string {
	_, params, err := mime.ParseMediaType(part.Header.Get("Content-Disposition"))
	if err != nil {
		return ""
	}
	return params["filename"]
}

func (s *submission) markExecutable(paths []string) error {
	for _, path := range paths {
		i := slices.IndexFunc(s.files, func(f workflow.Content) bool { return f.Path == path })
		if i < 0 {
			return fieldError("executable", "Names a file that was not sent.")
		}
		s.files[i].Executable = true
	}
	return nil
}

func fieldError(name, detail string) error {
	return refusal(errs.E(errs.Validation, "The form is not what this address reads.").With("/"+escapePointer(strings.ToValidUTF8(name, "�")), "%s", detail))
}

func formError(err error) error {
	if body := bodyError(err); body == err { //nolint:errorlint // the same error means: too large
		return err
	}
	return errs.E(errs.Invalid, "The form is malformed or broke off.").Because(err)
}
