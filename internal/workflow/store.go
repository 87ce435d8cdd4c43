package workflow

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"foundry/internal/errs"
	"foundry/internal/postgres/dbsqlc"
)

// Workflow is a named graph; its text is versioned.
type Workflow struct {
	ID            uuid.UUID
	Slug          string
	Name          string
	LatestVersion int
	CreatedAt     time.Time
	UpdatedAt     time.Time
}

// Version is one immutable text of a workflow.
type Version struct {
	Number    int
	Grammar   int // of the text, for Load
	Source    string
	CreatedAt time.Time
}

// Content is a file that a version brings into the workspace.
type Content struct {
	Path       string // in the workspace: relative, clean, with slashes
	Executable bool
	Bytes      []byte
}

// ContentInfo is a Content without its bytes.
type ContentInfo struct {
	Path       string
	Executable bool
	Size       int64 // bytes
}

// Store keeps workflows, their versions and files. Safe for concurrent use.
type Store struct {
	pool *pgxpool.Pool
	q    *dbsqlc.Queries
}

// NewStore returns a store on the pool.
func NewStore(pool *pgxpool.Pool) *Store {
	return &Store{pool: pool, q: dbsqlc.New(pool)}
}

// CreateParams is a new workflow with its first version, which has been compiled without errors.
type CreateParams struct {
	OrganizationID uuid.UUID
	Slug           string
	Name           string
	Source         string
	Files          []Content
}

// Create stores a workflow and its version 1. errs.Conflict when the slug is taken.
func (s *Store) Create(ctx context.Context, p CreateParams) (*Workflow, error) {
	id := uuid.Must(uuid.NewV7())
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		q := dbsqlc.New(tx)
		n, err := q.WorkflowInsert(ctx, id, p.OrganizationID, p.Slug, p.Name)
		if err != nil {
			return err
		}
		if n == 0 {
			return errs.E(errs.Conflict, "There is already a workflow with the slug %q.", p.Slug)
		}
		return insertVersion(ctx, q, id, 1, p.Source, p.Files)
	})
	if err != nil {
		return nil, fmt.Errorf("creating a workflow: %w", err)
	}
	return s.Get(ctx, p.OrganizationID, id.String())
}

// AddVersion stores the next version of a workflow, whose name becomes that of the text, and
// returns its number.
func (s *Store) AddVersion(ctx context.Context, workflowID uuid.UUID, name, source string, files []Content) (int, error) {
	var number int32
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		q := dbsqlc.New(tx)
		n, err := q.WorkflowAddVersion(ctx, name, workflowID)
		if errors.Is(err, pgx.ErrNoRows) {
			return notFound()
		}
		if err != nil {
			return err
		}
		number = n
		return insertVersion(ctx, q, workflowID, number, source, files)
	})
	if err != nil {
		return 0, fmt.Errorf("adding a version: %w", err)
	}
	return int(number), nil
}

func insertVersion(ctx context.Context, q *dbsqlc.Queries, workflowID uuid.UUID, number int32, source string, files []Content) error {
	if err := q.VersionInsert(ctx, workflowID, number, source); err != nil {
		return err
	}
	rows := make([]dbsqlc.FileInsertParams, 0, len(files))
	for _, f := range files {
		content := f.Bytes
		if content == nil {
			content = []byte{} // an empty file, not NULL
		}
		rows = append(rows, dbsqlc.FileInsertParams{WorkflowID: workflowID, Version: number, Path: f.Path, Executable: f.Executable, Content: content})
	}
	_, err := q.FileInsert(ctx, rows)
	return err
}

// Get returns the workflow of the organization with this id or slug. errs.NotFound if there is none.
func (s *Store) Get(ctx context.Context, organizationID uuid.UUID, ref string) (*Workflow, error) {
	var id *uuid.UUID
	slug := &ref
	if parsed, err := uuid.Parse(ref); err == nil {
		id, slug = &parsed, nil
	}
	row, err := s.q.WorkflowGet(ctx, organizationID, id, slug)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, notFound()
	}
	if err != nil {
		return nil, fmt.Errorf("reading a workflow: %w", err)
	}
	return &Workflow{
		ID: row.ID, Slug: row.Slug, Name: row.Name, LatestVersion: int(row.LatestVersion),
		CreatedAt: row.CreatedAt, UpdatedAt: row.UpdatedAt,
	}, nil
}

// List returns workflows by slug, from the one after afterSlug ("" for the first).
func (s *Store) List(ctx context.Context, organizationID uuid.UUID, afterSlug string, limit int) ([]Workflow, error) {
	rows, err := s.q.WorkflowList(ctx, organizationID, afterSlug, int32(limit))
	if err != nil {
		return nil, fmt.Errorf("listing workflows: %w", err)
	}
	list := make([]Workflow, 0, len(rows))
	for _, row := range rows {
		list = append(list, Workflow{
			ID: row.ID, Slug: row.Slug, Name: row.Name, LatestVersion: int(row.LatestVersion),
			CreatedAt: row.CreatedAt, UpdatedAt: row.UpdatedAt,
		})
	}
	return list, nil
}

// Version returns one version of a workflow. errs.NotFound if there is none.
func (s *Store) Version(ctx context.Context, workflowID uuid.UUID, number int) (*Version, error) {
	row, err := s.q.VersionGet(ctx, workflowID, int32(number))
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, errs.E(errs.NotFound, "The workflow has no version %d.", number)
	}
	if err != nil {
		return nil, fmt.Errorf("reading version %d: %w", number, err)
	}
	return &Version{Number: int(row.Version), Grammar: int(row.Grammar), Source: row.Source, CreatedAt: row.CreatedAt}, nil
}

// Versions returns versions without their texts, newest first, below the number given.
func (s *Store) Versions(ctx context.Context, workflowID uuid.UUID, before, limit int) ([]Version, error) {
	rows, err := s.q.VersionList(ctx, workflowID, int32(before), int32(limit))
	if err != nil {
		return nil, fmt.Errorf("listing versions: %w", err)
	}
	list := make([]Version, 0, len(rows))
	for _, row := range rows {
		list = append(list, Version{Number: int(row.Version), CreatedAt: row.CreatedAt})
	}
	return list, nil
}

// Contents returns the files of a version with their bytes, by path.
func (s *Store) Contents(ctx context.Context, workflowID uuid.UUID, number int) ([]Content, error) {
	rows, err := s.q.FileList(ctx, workflowID, int32(number))
	if err != nil {
		return nil, fmt.Errorf("reading files: %w", err)
	}
	files := make([]Content, 0, len(rows))
	for _, row := range rows {
		files = append(files, Content{Path: row.Path, Executable: row.Executable, Bytes: row.Content})
	}
	return files, nil
}

// ContentInfos returns the files of a version without their bytes, by path.
func (s *Store) ContentInfos(ctx context.Context, workflowID uuid.UUID, number int) ([]ContentInfo, error) {
	rows, err := s.q.FileListNames(ctx, workflowID, int32(number))
	if err != nil {
		return nil, fmt.Errorf("listing files: %w", err)
	}
	files := make([]ContentInfo, 0, len(rows))
	for _, row := range rows {
		files = append(files, ContentInfo{Path: row.Path, Executable: row.Executable, Size: row.Size})
	}
	return files, nil
}

func notFound() error {
	return errs.E(errs.NotFound, "There is no workflow with this id or slug.")
}
