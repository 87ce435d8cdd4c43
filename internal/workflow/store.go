package workflow

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"foundry/internal/audit"
	"foundry/internal/batch"
	"foundry/internal/errs"
	"foundry/internal/idempotency"
	"foundry/internal/postgres/dbsqlc"
)

// Workflow is a named graph; its text is versioned.
type Workflow struct {
	ID            uuid.UUID
	Slug          string
	Name          string
	LatestVersion int
	OwnerID       *uuid.UUID // the user who made it; nil for a token without a user
	Revision      int64      // rises with every change
	HasSecrets    bool
	PausedAt      *time.Time // since when no execution that has not begun is claimed; nil: it is not paused
	PausedBy      *string    // the name of a user or token; nil with PausedAt
	MaxQueued     int        // how many of its executions may be queued; 0: as many as the installation allows
	CreatedAt     time.Time
	UpdatedAt     time.Time
}

// Version is one immutable text of a workflow.
type Version struct {
	Number    int
	Grammar   int // of the text, for Load
	Source    string
	CreatedAt time.Time
	CreatedBy string // the name of a user or token; may be empty
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
	gets batch.Turns[named, struct{}, Workflow]
}

// NewStore returns a store on the pool.
func NewStore(pool *pgxpool.Pool) *Store {
	s := &Store{pool: pool, q: dbsqlc.New(pool)}
	s.gets.Do = s.getFor
	return s
}

// CreateParams is a new workflow with its first version, which has been compiled without errors.
type CreateParams struct {
	OrganizationID uuid.UUID
	OwnerID        *uuid.UUID
	Actor          audit.Actor // zero: nothing is put on record
	Slug           string
	Name           string
	Source         string
	Files          []Content
	Once           *idempotency.Guard[*Workflow] // nil: every time
}

// Create stores a workflow and its version 1. errs.Conflict when the slug is taken.
func (s *Store) Create(ctx context.Context, p CreateParams) (created *Workflow, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) (err error) {
		created, err = p.Once.Do(ctx, tx, func() (*Workflow, error) { return create(ctx, tx, p) })
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("creating a workflow: %w", err)
	}
	return created, nil
}

func create(ctx context.Context, tx pgx.Tx, p CreateParams) (*Workflow, error) {
	q := dbsqlc.New(tx)
	row, err := q.WorkflowInsert(ctx, dbsqlc.WorkflowInsertParams{
		ID: uuid.Must(uuid.NewV7()), OrganizationID: p.OrganizationID, Slug: p.Slug, Name: p.Name, OwnerID: p.OwnerID,
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, slugTaken(p.Slug)
	}
	if err != nil {
		return nil, err
	}
	if err := insertVersion(ctx, q, version{row.ID, 1, p.Source, p.Actor.Name, p.Files}); err != nil {
		return nil, err
	}
	return workflowOf(dbsqlc.WorkflowGetRow(row)), record(ctx, tx, audit.Entry{Actor: p.Actor, Action: audit.WorkflowCreate, WorkflowID: &row.ID, Target: row.Slug})
}

// record puts a change on record, unless it was made by nobody in particular.
func record(ctx context.Context, tx pgx.Tx, e audit.Entry) error {
	if e.Actor.Kind == "" {
		return nil
	}
	return audit.Write(ctx, tx, e)
}

// VersionParams is a new version, which has been compiled without errors.
type VersionParams struct {
	WorkflowID     uuid.UUID
	OrganizationID uuid.UUID
	Actor          audit.Actor // zero: nothing is put on record
	Name           string      // of the text
	Source         string
	Files          []Content
	Public         bool                    // refuse with errs.Forbidden if the workflow has secrets by now
	Once           *idempotency.Guard[int] // nil: every time
}

// AddVersion stores the next version of a workflow, whose name becomes that of the text, and
// returns its number.
func (s *Store) AddVersion(ctx context.Context, p VersionParams) (number int, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) (err error) {
		number, err = p.Once.Do(ctx, tx, func() (int, error) { return addVersion(ctx, tx, p) })
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("adding a version: %w", err)
	}
	return number, nil
}

func addVersion(ctx context.Context, tx pgx.Tx, p VersionParams) (int, error) {
	q := dbsqlc.New(tx)
	now, err := lock(ctx, q, p.OrganizationID, p.WorkflowID)
	if err != nil {
		return 0, err
	}
	if p.Public && now.HasSecrets {
		return 0, errs.E(errs.Forbidden, "The workflow has secrets by now, so only its owner may push versions.")
	}
	number, err := q.WorkflowAddVersion(ctx, p.Name, p.WorkflowID)
	if err != nil {
		return 0, err
	}
	if err := insertVersion(ctx, q, version{p.WorkflowID, number, p.Source, p.Actor.Name, p.Files}); err != nil {
		return 0, err
	}
	return int(number), record(ctx, tx, audit.Entry{Actor: p.Actor, Action: audit.VersionCreate, WorkflowID: &p.WorkflowID, Target: now.Slug, Data: map[string]any{"version": number}})
}

// version is a row to insert, with its files.
type version struct {
	workflowID uuid.UUID
	number     int32
	source     string
	by         string
	files      []Content
}

func insertVersion(ctx context.Context, q *dbsqlc.Queries, v version) error {
	if err := q.VersionInsert(ctx, v.workflowID, v.number, v.source, v.by); err != nil {
		return err
	}
	rows := make([]dbsqlc.FileInsertParams, 0, len(v.files))
	for _, f := range v.files {
		content := f.Bytes
		if content == nil {
			content = []byte{} // an empty file, not NULL
		}
		rows = append(rows, dbsqlc.FileInsertParams{WorkflowID: v.workflowID, Version: v.number, Path: f.Path, Executable: f.Executable, Content: content})
	}
	_, err := q.FileInsert(ctx, rows)
	return err
}

// Get returns the workflow of the organization with this id or slug, as it is at some time after the call. errs.NotFound if there is none.
func (s *Store) Get(ctx context.Context, organizationID uuid.UUID, ref string) (*Workflow, error) {
	// Every request that queues an execution asks; who asks while somebody else reads has the next reading, not that one.
	w, err := s.gets.Run(ctx, named{organizationID, ref}, struct{}{})
	if err != nil {
		return nil, err
	}
	return &w, nil
}

func (s *Store) get(ctx context.Context, organizationID uuid.UUID, ref string) (*Workflow, error) {
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
	return workflowOf(row), nil
}

// named is a workflow as a request names it.
type named struct {
	organizationID uuid.UUID
	ref            string
}

// getFor reads a workflow once for all who have asked for it.
func (s *Store) getFor(ctx context.Context, n named, asked []struct{}) ([]Workflow, error) {
	w, err := s.get(ctx, n.organizationID, n.ref)
	if err != nil {
		return nil, err
	}
	return slices.Repeat([]Workflow{*w}, len(asked)), nil
}

// List returns workflows by slug, from the one after afterSlug ("" for the first).
func (s *Store) List(ctx context.Context, organizationID uuid.UUID, afterSlug string, limit int) ([]Workflow, error) {
	rows, err := s.q.WorkflowList(ctx, organizationID, afterSlug, int32(limit))
	if err != nil {
		return nil, fmt.Errorf("listing workflows: %w", err)
	}
	list := make([]Workflow, 0, len(rows))
	for _, row := range rows {
		list = append(list, *workflowOf(dbsqlc.WorkflowGetRow(row)))
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
	return &Version{Number: int(row.Version), Grammar: int(row.Grammar), Source: row.Source, CreatedAt: row.CreatedAt, CreatedBy: row.CreatedBy}, nil
}

// Versions returns versions without their texts, newest first, below the number given.
func (s *Store) Versions(ctx context.Context, workflowID uuid.UUID, before, limit int) ([]Version, error) {
	rows, err := s.q.VersionList(ctx, workflowID, int32(before), int32(limit))
	if err != nil {
		return nil, fmt.Errorf("listing versions: %w", err)
	}
	list := make([]Version, 0, len(rows))
	for _, row := range rows {
		list = append(list, Version{Number: int(row.Version), CreatedAt: row.CreatedAt, CreatedBy: row.CreatedBy})
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

func workflowOf(row dbsqlc.WorkflowGetRow) *Workflow {
	return &Workflow{
		ID: row.ID, Slug: row.Slug, Name: row.Name, LatestVersion: int(row.LatestVersion), OwnerID: row.OwnerID,
		Revision: row.Revision, HasSecrets: row.HasSecrets, PausedAt: row.PausedAt, PausedBy: row.PausedBy, MaxQueued: int(row.MaxQueued), CreatedAt: row.CreatedAt, UpdatedAt: row.UpdatedAt,
	}
}

func slugTaken(slug string) error {
	return errs.E(errs.Conflict, "There is already a workflow with the slug %q.", slug)
}

func notFound() error {
	return errs.E(errs.NotFound, "There is no workflow with this id or slug.")
}
