package artifact_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"foundry/internal/artifact"
	"foundry/internal/errs"
	"foundry/internal/execution"
	"foundry/internal/pgtest"
	"foundry/internal/postgres"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const claim = 7

// testBundle is an execution that is held, with a node run.
type testBundle struct {
	t              *testing.T
	pool           *pgxpool.Pool
	store          *artifact.Store
	uploads        *artifact.Uploader
	execution, run uuid.UUID
}

func setup(t *testing.T) *testBundle {
	t.Helper()
	pool := pgtest.Open(t, pgtest.Database(t), postgres.Options{MaxConns: 4})
	b := &testBundle{
		t: t, pool: pool, store: artifact.NewStore(pool), uploads: artifact.NewUploader(pool), execution: execution.NewID(), run: execution.NewID(),
	}
	pgtest.Exec(t, pool, `WITH o AS (INSERT INTO organizations (id, slug, name) VALUES (gen_random_uuid(), 'acme', 'Acme') RETURNING id),
		w AS (INSERT INTO workflows (id, organization_id, slug, name, latest_version) SELECT gen_random_uuid(), id, 'w', 'W', 1 FROM o RETURNING id, organization_id),
		v AS (INSERT INTO workflow_versions (workflow_id, version, source) SELECT id, 1, '' FROM w)
		INSERT INTO executions (id, organization_id, workflow_id, workflow_version, number, status, source, claim, worker_id, queued_at, queue_deadline_at, claimed_at)
		SELECT $1, organization_id, id, 1, 1, 'running', 'api', $2, gen_random_uuid(), now(), now(), now() FROM w`, b.execution, claim)
	pgtest.Exec(t, pool, `INSERT INTO node_runs (id, execution_id, node_key, status, started_at) VALUES ($1, $2, 'n', 'running', now())`, b.run, b.execution)
	return b
}

func (b *testBundle) upload(path string, content []byte) artifact.Upload {
	sum := sha256.Sum256(content)
	return artifact.Upload{ExecutionID: b.execution, Claim: claim, NodeRunID: b.run, Path: path, Size: int64(len(content)), SHA256: sum[:]}
}

// from is a source of bytes.
func from(content []byte) artifact.Source {
	return func(_ context.Context, offset, limit int64) ([]byte, error) {
		return content[min(offset, int64(len(content))):min(offset+limit, int64(len(content)))], nil
	}
}

func (b *testBundle) count(table string) int {
	b.t.Helper()
	return pgtest.Get[int](b.t, b.pool, "SELECT count(*)::int FROM "+table)
}

// complete does what the journal does.
func (b *testBundle) complete(ids ...uuid.UUID) {
	b.t.Helper()
	pgtest.Exec(b.t, b.pool, "UPDATE artifacts SET state = 'complete' WHERE id = ANY ($1) AND state = 'stored'", ids)
}

func random(size int) []byte {
	content := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(size)}).Read(content)
	return content
}

func TestStoreAndRead(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, size := range []int{0, 1, artifact.ChunkSize - 1, artifact.ChunkSize, artifact.ChunkSize + 1, 3 * artifact.ChunkSize} {
		content := random(size)
		f := b.upload("f", content)
		f.Path = "f" + string(rune('0'+size%10)) + string(rune('a'+size>>20))
		id, again, err := b.uploads.Store(t.Context(), f, from(content))
		if err != nil || again {
			t.Fatalf("%d bytes: %v, again: %v", size, err, again)
		}
		if _, err := b.store.Get(t.Context(), b.execution, id); !errs.Is(err, errs.NotFound) {
			t.Errorf("%d bytes are seen before they are complete: %v", size, err)
		}
		refuse := func(context.Context, int64, int64) ([]byte, error) { return nil, errors.New("it is stored") }
		if size > artifact.ChunkSize { // smaller ones are read again, since they are stored with their row
			if second, again, err := b.uploads.Store(t.Context(), f, refuse); err != nil || !again || second != id {
				t.Errorf("%d bytes again: %v, %v", size, again, err)
			}
		}
		b.complete(id)
		file, err := b.store.Get(t.Context(), b.execution, id)
		if err != nil {
			t.Fatal(err)
		}
		if read, err := io.ReadAll(b.store.Open(t.Context(), file)); err != nil || !bytes.Equal(read, content) {
			t.Errorf("%d bytes: read %d, %v", size, len(read), err)
		}
	}
}

func TestStaleClaimsWriteNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	large := random(3 * artifact.ChunkSize)
	for name, f := range map[string]artifact.Upload{"small": b.upload("small", []byte("x")), "large": b.upload("large", large)} {
		f.Claim--
		if _, _, err := b.uploads.Store(t.Context(), f, from(large[:f.Size])); !errs.Is(err, errs.StaleClaim) && !errs.Is(err, artifact.Changed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := b.uploads.Begin(t.Context(), b.execution, claim-1); !errs.Is(err, errs.StaleClaim) {
		t.Errorf("beginning: %v", err)
	}
	if n := b.count("artifacts") + b.count("artifact_chunks"); n != 0 {
		t.Fatalf("%d rows", n)
	}
	// The claim is lost in the middle of a file, and then its state.
	for _, at := range []int64{artifact.ChunkSize, 2 * artifact.ChunkSize} {
		pgtest.Exec(t, b.pool, "UPDATE executions SET claim = $1", claim)
		chunks := 0
		_, _, err := b.uploads.Store(t.Context(), b.upload("middle", large), func(ctx context.Context, offset, limit int64) ([]byte, error) {
			if offset == at {
				row := b.pool.QueryRow(ctx, "WITH taken AS (UPDATE executions SET claim = claim + 1) SELECT count(*) FROM artifact_chunks")
				if err := row.Scan(&chunks); err != nil {
					t.Error(err)
				}
			}
			return from(large)(ctx, offset, limit)
		})
		if !errs.Is(err, errs.StaleClaim) || b.count("artifact_chunks") != chunks || b.count("artifacts WHERE state <> 'uploading'") != 0 {
			t.Errorf("at %d: %v, %d chunks, want %d", at, err, b.count("artifact_chunks"), chunks)
		}
	}
	// An end is one, too.
	pgtest.Exec(t, b.pool, "UPDATE executions SET claim = $1, status = 'failed', worker_id = NULL, finished_at = now()", claim)
	if _, _, err := b.uploads.Store(t.Context(), b.upload("late", []byte("x")), from([]byte("x"))); !errs.Is(err, errs.StaleClaim) {
		t.Errorf("after the end: %v", err)
	}
}

// TestLateChunkOfAnotherUpload has a worker that lost its claim write while the next one has begun the same file anew.
func TestLateChunkOfAnotherUpload(t *testing.T) {
	t.Parallel()
	b := setup(t)
	content := random(2 * artifact.ChunkSize)
	f := b.upload("f", content)
	var second uuid.UUID
	_, _, err := b.uploads.Store(t.Context(), f, func(ctx context.Context, offset, limit int64) ([]byte, error) {
		if offset > 0 { // the next claim begins, and gets the same number: only the row tells the uploads apart
			if _, err := b.uploads.Begin(ctx, b.execution, claim); err != nil {
				t.Error(err)
			}
			var err error
			if second, _, err = artifact.NewUploader(b.pool).Store(ctx, f, from(content)); err != nil {
				t.Error(err)
			}
		}
		return from(content)(ctx, offset, limit)
	})
	if !errs.Is(err, errs.StaleClaim) {
		t.Errorf("the late upload: %v", err)
	}
	b.complete(second)
	if b.count("artifacts WHERE state = 'complete'") != 1 || b.count("artifact_chunks") != 2 {
		t.Errorf("%d files, %d chunks", b.count("artifacts"), b.count("artifact_chunks"))
	}
}

func TestChangedFiles(t *testing.T) {
	t.Parallel()
	b := setup(t)
	content := random(2 * artifact.ChunkSize)
	other := bytes.Clone(content)
	other[len(other)-1]++
	for name, c := range map[string]struct {
		f    artifact.Upload
		read []byte
	}{
		"another byte":        {b.upload("a", content), other},
		"shorter":             {b.upload("b", content), content[:len(content)-1]},
		"another small one":   {b.upload("c", []byte("x")), []byte("y")},
		"small, and empty":    {b.upload("d", []byte("x")), nil},
		"small, from nothing": {b.upload("e", nil), []byte("only its size counts")},
	} {
		id, _, err := b.uploads.Store(t.Context(), c.f, from(c.read))
		if name == "small, from nothing" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if !errs.Is(err, artifact.Changed) || id != uuid.Nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Listed again with its new hash, it replaces what was begun.
	id, again, err := b.uploads.Store(t.Context(), b.upload("a", other), from(other))
	if err != nil || again {
		t.Fatal(again, err)
	}
	b.complete(id)
	if _, err := b.uploads.Begin(t.Context(), b.execution, claim); err != nil {
		t.Fatal(err)
	}
	if b.count("artifact_chunks") != 2 || b.count("artifacts") != 2 {
		t.Errorf("%d chunks of %d files", b.count("artifact_chunks"), b.count("artifacts"))
	}
}

func TestDamage(t *testing.T) {
	t.Parallel()
	b := setup(t)
	content := random(artifact.ChunkSize + 5)
	id, _, err := b.uploads.Store(t.Context(), b.upload("f", content), from(content))
	if err != nil {
		t.Fatal(err)
	}
	b.complete(id)
	f, err := b.store.Get(t.Context(), b.execution, id)
	if err != nil {
		t.Fatal(err)
	}
	read := func() error {
		_, err := io.ReadAll(b.store.Open(t.Context(), f))
		return err
	}
	if err := read(); err != nil || artifact.Damaged(err) {
		t.Fatal(err)
	}
	for _, damage := range []string{
		"UPDATE artifact_chunks SET data = set_byte(data, 0, 1 - get_byte(data, 0) % 2) WHERE number = 0",
		"UPDATE artifact_chunks SET data = 'x' WHERE number = 1", "DELETE FROM artifact_chunks WHERE number = 1",
	} {
		pgtest.Exec(t, b.pool, damage)
		if err := read(); !artifact.Damaged(err) {
			t.Errorf("%s: %v", damage, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := io.ReadAll(b.store.Open(ctx, f)); err == nil || artifact.Damaged(err) {
		t.Errorf("an ended context: %v", err)
	}
}

// TestMemoryIsBounded stores as much as an execution may have, in files that are read side by side, and measures what is in use meanwhile.
func TestMemoryIsBounded(t *testing.T) { //nolint:paralleltest // it measures the heap of the process
	b := setup(t)
	// Little is garbage then, however late the heap is looked at after a collection.
	defer debug.SetGCPercent(debug.SetGCPercent(10))
	const files, size = 4, artifact.MaxFile
	zeros := make([]byte, artifact.ChunkSize)
	var read artifact.Source = func(_ context.Context, _, limit int64) ([]byte, error) { return bytes.Clone(zeros[:limit]), nil }
	sum := sha256.New()
	for range size / artifact.ChunkSize {
		sum.Write(zeros)
	}
	before := inUse()
	most := make(chan uint64)
	stop := make(chan struct{})
	go func() {
		peak := uint64(0)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				peak = max(peak, inUse())
			case <-stop:
				most <- peak
				return
			}
		}
	}()
	var all sync.WaitGroup
	for n := range files {
		all.Go(func() {
			f := artifact.Upload{
				ExecutionID: b.execution, Claim: claim, NodeRunID: b.run, Path: string(rune('a' + n)), Size: size, SHA256: sum.Sum(nil),
			}
			if _, _, err := b.uploads.Store(t.Context(), f, read); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	close(stop)
	if used := max(<-most, before) - before; used > 20<<20 {
		t.Errorf("%d MiB of heap for %d files", used>>20, files)
	} else {
		t.Logf("%d MiB of heap", used>>20)
	}
	if n := b.count("artifact_chunks"); n != files*size/artifact.ChunkSize {
		t.Errorf("%d chunks", n)
	}
}

// inUse is what the heap holds, most of which is reachable.
func inUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
