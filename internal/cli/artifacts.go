package cli

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"foundry/api/client"
)

func (a *app) artifactsCommand() *cobra.Command {
	all := &cobra.Command{
		Use:   "list ID",
		Short: "List the files that an execution has left",
		Long: "List the artifacts and checkpoints of an execution, which is named by its id or as WORKFLOW#NUMBER. Those of nodes that a rerun has\n" +
			"taken over are among them.",
		Example: "foundry artifacts list report#7",
		Args:    takes("ID"),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.listArtifacts(cmd.Context(), args[0]) },
	}
	choice := artifactChoice{}
	download := &cobra.Command{
		Use:   "download ID [PATH…]",
		Short: "Download artifacts",
		Long: "Download the artifacts of an execution, which is named by its id or as WORKFLOW#NUMBER: all of them, or those with a PATH or below it. Of\n" +
			"a node that ran several times, those of the last attempt. A path that several nodes have left is put into a folder with the node's name.\n\n" +
			"Files that are there already, with the same content, are not read again; others are replaced. What was broken off is gone on with. The\n" +
			"content is compared with its SHA-256. Nothing is written outside of the folder. With --checkpoint, the files of the newest checkpoint of\n" +
			"each node are downloaded instead.",
		Example: "foundry artifacts download report#7 --dir out\nfoundry artifacts download report#7 chart.svg",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage("Usage: %s", cmd.UseLine())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			choice.paths = args[1:]
			return a.downloadArtifacts(cmd.Context(), args[0], choice)
		},
	}
	download.Flags().StringVar(&choice.dir, "dir", ".", "the folder to write to")
	download.Flags().StringVar(&choice.node, "node", "", "only those of this node")
	download.Flags().BoolVar(&choice.checkpoint, "checkpoint", false, "the newest checkpoint instead of artifacts")
	return commands(&cobra.Command{Use: "artifacts", Short: "List and download what commands have left"}, all, download)
}

// artifactChoice says which files to download, and to where.
type artifactChoice struct {
	paths      []string
	dir        string
	node       string
	checkpoint bool
}

// artifacts reads all pages of an execution's files.
func (s *server) artifacts(ctx context.Context, id uuid.UUID, query url.Values) ([]client.Artifact, error) {
	files := []client.Artifact{}
	query.Set("limit", strconv.Itoa(pageLimit))
	for {
		var page client.ArtifactPage
		if _, err := s.call(ctx, request{method: http.MethodGet, path: []string{"executions", id.String(), "artifacts"}, query: query}, &page); err != nil {
			return nil, err
		}
		files = append(files, page.Data...)
		if page.NextCursor == nil {
			return files, nil
		}
		query.Set("cursor", *page.NextCursor)
	}
}

func (a *app) listArtifacts(ctx context.Context, name string) error {
	s, id, err := a.connectTo(ctx, name)
	if err != nil {
		return err
	}
	defer s.close()
	files, err := s.artifacts(ctx, id, url.Values{})
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(list[client.Artifact]{Data: files})
	}
	rows := [][]string{{"NODE", "ATTEMPT", "KIND", "PATH", "BYTES", "STORED", "ID"}}
	for _, f := range files {
		kind := string(f.Kind)
		if f.Checkpoint != nil {
			kind += " " + strconv.Itoa(*f.Checkpoint)
		}
		rows = append(rows, []string{
			labelOf(f.Node, f.Index), strconv.Itoa(f.Attempt), kind, strings.Map(printable, f.Path), strconv.FormatInt(f.Size, 10),
			f.CreatedAt.Local().Format(time.DateTime), f.ID.String(),
		})
	}
	table(a.Out, rows)
	return nil
}

// downloaded is what became of one file.
type downloaded struct {
	client.Artifact

	File  string `json:"file"`  // where it is
	State string `json:"state"` // downloaded, or present: it was there already
}

func (a *app) downloadArtifacts(ctx context.Context, name string, choice artifactChoice) error {
	s, id, err := a.connectTo(ctx, name)
	if err != nil {
		return err
	}
	defer s.close()
	query := url.Values{"kind": {"artifact"}}
	if choice.checkpoint {
		query.Set("kind", "checkpoint")
	}
	if choice.node != "" {
		query.Set("node", choice.node)
	}
	files, err := s.artifacts(ctx, id, query)
	if err != nil {
		return err
	}
	targets, err := targetsOf(files, choice)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(choice.dir, 0o755); err != nil {
		return usage("%s cannot be made: %s.", choice.dir, reason(err))
	}
	root, err := os.OpenRoot(choice.dir)
	if err != nil {
		return usage("%s cannot be opened: %s.", choice.dir, reason(err))
	}
	defer root.Close()
	d := download{server: s, execution: id, root: root}
	done := list[downloaded]{Data: []downloaded{}}
	for _, t := range targets {
		state, err := d.fetch(ctx, t)
		if err != nil {
			return err
		}
		done.Data = append(done.Data, downloaded{Artifact: t.file, File: t.path, State: state})
		if !a.json {
			fmt.Fprintf(a.Out, "%s  %d bytes  %s\n", strings.Map(printable, t.path), t.file.Size, state)
		}
	}
	if a.json {
		return a.printJSON(done)
	}
	return nil
}
