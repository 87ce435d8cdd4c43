package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"foundry/api/client"
	"foundry/internal/workflow"
)

func (a *app) validateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "validate FILE",
		Short: "Check a workflow's text, without a server",
		Long: "Check a workflow's text, without a server. Every mistake is a line FILE:LINE:COLUMN: MESSAGE, with a hint where there is one; the\n" +
			"exit code is then 1.",
		Example: "foundry validate workflow.yaml",
		Args:    takes("FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			return a.validate(args[0])
		},
	}
}

func (a *app) validate(name string) error {
	t, err := readText(name)
	if err != nil {
		return err
	}
	switch {
	case a.json:
		if err := a.printJSON(t.validation()); err != nil {
			return err
		}
	default:
		printDiagnostics(a.Out, name, t.source, t.diagnostics)
		if t.definition != nil {
			fmt.Fprintf(a.Out, "%s is valid: %d nodes.\n", name, len(t.definition.Nodes))
		}
	}
	if t.definition == nil {
		return quiet{exitFailed}
	}
	return nil
}

func (a *app) workflowCommand() *cobra.Command {
	var slug string
	push := &cobra.Command{
		Use:   "push FILE",
		Short: "Store a workflow's text as a new version",
		Long: "Store a workflow's text as a new version, and the workflow itself if there is none with the slug yet. The files that\n" +
			"the text names under `files` go along; they must lie in the text's folder.",
		Example: "foundry workflow push report.yaml --slug monthly-report",
		Args:    takes("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.push(cmd.Context(), args[0], slug)
		},
	}
	push.Flags().StringVar(&slug, "slug", "", "name of the workflow in URLs and commands; made from its name unless given")
	pause := &cobra.Command{
		Use:   "pause WORKFLOW",
		Short: "Keep what is queued of a workflow from beginning",
		Long: "Keep what is queued of a workflow (id or slug) from beginning, until `foundry workflow resume`. Executions are queued all the same;\n" +
			"those that have begun go on. How long an execution may wait in the queue is counted meanwhile.",
		Example: "foundry workflow pause monthly-report",
		Args:    takes("WORKFLOW"),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.pause(cmd.Context(), args[0], true) },
	}
	resume := &cobra.Command{
		Use:     "resume WORKFLOW",
		Short:   "End the pause of a workflow",
		Long:    "End the pause of a workflow (id or slug). What is queued begins in the order that it would have had.",
		Example: "foundry workflow resume monthly-report",
		Args:    takes("WORKFLOW"),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.pause(cmd.Context(), args[0], false) },
	}
	return commands(&cobra.Command{Use: "workflow", Short: "Store and pause workflows"}, push, pause, resume)
}

// pause begins or ends a pause, whatever else has become of the workflow.
func (a *app) pause(ctx context.Context, name string, paused bool) error {
	s, err := a.connect()
	if err != nil {
		return err
	}
	defer s.close()
	var w client.Workflow
	answer, err := s.call(ctx, request{
		method: http.MethodPatch, path: []string{"workflows", name}, header: http.Header{"If-Match": {"*"}},
		body: client.WorkflowChange{Paused: &paused},
	}, &w)
	if err != nil {
		return withPushHint(err, name)
	}
	switch {
	case a.json:
		return a.printJSON(answer)
	case w.PausedAt != nil && w.PausedBy != nil:
		fmt.Fprintf(a.Out, "%s is paused since %s, by %s.\n", w.Slug, w.PausedAt.Local().Format(time.DateTime), *w.PausedBy)
	default:
		fmt.Fprintf(a.Out, "%s is not paused.\n", w.Slug)
	}
	return nil
}

func (a *app) push(ctx context.Context, name, slug string) error {
	t, err := readText(name)
	if err != nil {
		return err
	}
	if !a.json {
		printDiagnostics(a.Err, name, t.source, t.diagnostics)
	}
	if t.definition == nil {
		if a.json {
			return errors.Join(a.printJSON(t.validation()), quiet{exitFailed})
		}
		return invalidText(name)
	}
	if slug == "" {
		slug = workflow.SlugFromName(t.definition.Name)
	}
	s, err := a.connect()
	if err != nil {
		return err
	}
	defer s.close()
	version, answer, err := s.push(ctx, t, slug)
	if refused, ok := errors.AsType[*refusal](err); ok && len(refused.problem.Diagnostics) > 0 {
		printDiagnostics(a.Err, name, t.source, diagnosticsOf(refused))
		return invalidText(name)
	}
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(answer)
	}
	fmt.Fprintf(a.Out, "%s version %d is stored.\n", slug, version)
	return nil
}

// push stores the text as the next version of the workflow with the slug, making it if need be.
func (s *server) push(ctx context.Context, t *text, slug string) (version int, answer json.RawMessage, err error) {
	add := func() error {
		var added client.VersionCreated
		r, err := t.request([]string{"workflows", slug, "versions"}, "")
		if err != nil {
			return err
		}
		answer, err = s.call(ctx, r, &added)
		version = added.Version
		return err
	}
	err = add()
	if !isStatus(err, http.StatusNotFound) {
		return version, answer, err
	}
	r, err := t.request([]string{"workflows"}, slug)
	if err != nil {
		return 0, nil, err
	}
	var created client.Workflow
	answer, err = s.call(ctx, r, &created)
	if isStatus(err, http.StatusConflict) { // somebody else has just made it
		err = add()
		return version, answer, err
	}
	return created.Version, answer, err
}

func isStatus(err error, status int) bool {
	refused, ok := errors.AsType[*refusal](err)
	return ok && refused.status == status
}

// request stores the text; an empty slug is left out. Files go as parts of a form, since JSON would
// blow them up by a third and is limited to 1 MiB.
func (t *text) request(path []string, slug string) (request, error) {
	r := request{method: http.MethodPost, path: path}
	if len(t.files) == 0 {
		r.body = client.NewWorkflow{Source: string(t.source), Slug: slug}
		if slug == "" {
			r.body = client.NewVersion{Source: string(t.source)}
		}
		return r, nil
	}
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	err := form.WriteField("source", string(t.source))
	if err == nil && slug != "" {
		err = form.WriteField("slug", slug)
	}
	for _, f := range t.files {
		if err != nil {
			break
		}
		err = writeFormFile(form, f)
	}
	if err := errors.Join(err, form.Close()); err != nil {
		return request{}, fmt.Errorf("encoding the files: %w", err)
	}
	r.form, r.header = body.Bytes(), http.Header{"Content-Type": {form.FormDataContentType()}}
	return r, nil
}

func writeFormFile(form *multipart.Writer, f workflow.Content) error {
	quoted := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(f.Path)
	part, err := form.CreatePart(textproto.MIMEHeader{
		"Content-Disposition": {`form-data; name="files"; filename="` + quoted + `"`},
		"Content-Type":        {"application/octet-stream"},
	})
	if err != nil {
		return err
	}
	if _, err := part.Write(f.Bytes); err != nil {
		return err
	}
	if f.Executable {
		return form.WriteField("executable", f.Path)
	}
	return nil
}
