package httpapi

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"path"
	"strconv"

	"github.com/google/uuid"

	"foundry/internal/artifact"
	"foundry/internal/httpapi/openapi"
)

func (h *handlers) ListArtifacts(ctx context.Context, r openapi.ListArtifactsRequestObject) (openapi.ListArtifactsResponseObject, error) {
	after, err := decodeID(listArtifacts, r.Params.Cursor)
	if err != nil {
		return nil, err
	}
	if _, err := h.executions.Get(ctx, principal(ctx).OrganizationID, r.Execution); err != nil {
		return nil, err
	}
	limit := valueOr(r.Params.Limit, pageDefault)
	files, err := h.artifacts.List(ctx, artifact.ListParams{
		ExecutionID: r.Execution, Node: valueOr(r.Params.Node, ""), Kind: artifact.Kind(valueOr(r.Params.Kind, "")), After: after, Limit: limit + 1,
	})
	if err != nil {
		return nil, err
	}
	files, next := page(listArtifacts, files, limit, func(f artifact.File) string { return f.ID.String() })
	answer := openapi.ListArtifacts200JSONResponse{Data: make([]openapi.Artifact, 0, len(files)), NextCursor: next}
	for i := range files {
		answer.Data = append(answer.Data, artifactJSON(&files[i]))
	}
	return answer, nil
}

func (h *handlers) GetArtifact(ctx context.Context, r openapi.GetArtifactRequestObject) (openapi.GetArtifactResponseObject, error) {
	f, err := h.artifact(ctx, r.Execution, r.Artifact)
	if err != nil {
		return nil, err
	}
	return openapi.GetArtifact200JSONResponse(artifactJSON(f)), nil
}

// artifact returns a file of an execution of the caller's.
func (s *Server) artifact(ctx context.Context, executionID, id uuid.UUID) (*artifact.File, error) {
	if _, err := s.executions.Get(ctx, principal(ctx).OrganizationID, executionID); err != nil {
		return nil, err
	}
	return s.artifacts.Get(ctx, executionID, id)
}

func artifactJSON(f *artifact.File) openapi.Artifact {
	a := openapi.Artifact{
		ID: f.ID, Kind: openapi.ArtifactKind(f.Kind()), Node: f.Node, Index: f.Index, Attempt: f.Attempt, NodeRunID: f.NodeRunID, ExecutionID: f.ExecutionID,
		Path: f.Path, Size: f.Size, Sha256: hex.EncodeToString(f.SHA256), Executable: f.Executable, CreatedAt: f.CreatedAt.UTC(),
	}
	if f.Checkpoint > 0 {
		a.Checkpoint = &f.Checkpoint
	}
	return a
}

func (h *handlers) GetArtifactContent(ctx context.Context, r openapi.GetArtifactContentRequestObject) (openapi.GetArtifactContentResponseObject, error) {
	f, err := h.artifact(ctx, r.Execution, r.Artifact)
	if err != nil {
		return nil, err
	}
	c := &artifactContent{ctx: ctx, artifacts: h.artifacts, file: f, tag: `"` + hex.EncodeToString(f.SHA256) + `"`}
	if unchanged(r.Params.IfNoneMatch, c.tag) {
		return openapi.GetArtifactContent304Response{Headers: openapi.GetArtifactContent304ResponseHeaders{ETag: c.tag}}, nil
	}
	if r.Params.Range != nil && (r.Params.IfRange == nil || *r.Params.IfRange == c.tag) {
		if c.part, err = parseRange(*r.Params.Range, f.Size); err != nil {
			return nil, err
		}
	}
	// The first chunk is read before the answer begins, so that what is gone is a problem and not a torn answer.
	if from := c.bytes().from; from < f.Size {
		c.number = int(from / artifact.ChunkSize)
		if c.chunk, err = h.artifacts.Chunk(ctx, f, c.number); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// artifactContent is the content of a file, or a part of it. It is read a chunk at a time.
type artifactContent struct {
	ctx       context.Context //nolint:containedctx // of the request; the generated interface passes none
	artifacts *artifact.Store
	file      *artifact.File
	tag       string
	part      *byteRange
	chunk     []byte // the first
	number    int    // its
}

func (c *artifactContent) bytes() byteRange {
	if c.part != nil {
		return *c.part
	}
	return byteRange{0, c.file.Size}
}

// VisitGetArtifactContentResponse writes the content. A browser saves it, and runs nothing of it.
func (c *artifactContent) VisitGetArtifactContentResponse(w http.ResponseWriter) error {
	part, status, header := c.bytes(), http.StatusOK, w.Header()
	if c.part != nil {
		status = http.StatusPartialContent
		header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", part.from, part.to-1, c.file.Size))
	}
	header.Set("Content-Type", "application/octet-stream")
	header.Set("Content-Disposition", attachment(c.file.Path))
	header.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "private, no-cache")
	header.Set("Accept-Ranges", "bytes")
	header.Set("ETag", c.tag)
	header.Set("Content-Length", strconv.FormatInt(part.to-part.from, 10))
	w.WriteHeader(status)
	for at := part.from; at < part.to; c.number++ {
		if c.chunk == nil {
			chunk, err := c.artifacts.Chunk(c.ctx, c.file, c.number)
			if err != nil {
				return err
			}
			c.chunk = chunk
		}
		piece := part.within(int64(c.number)*artifact.ChunkSize, int64(len(c.chunk)))
		if _, err := w.Write(c.chunk[piece.from:piece.to]); err != nil {
			return errors.Join(errClientGone, err)
		}
		at += piece.to - piece.from
		c.chunk = nil
	}
	return nil
}

// attachment is the header that has a browser save a file under the last part of its path. Names that are not plain ASCII are
// encoded (RFC 2231), which mime does.
func attachment(name string) string {
	base := path.Base(name)
	if header := mime.FormatMediaType("attachment", map[string]string{"filename": base}); header != "" {
		return header
	}
	return "attachment"
}
