package sandboxtest

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"foundry/internal/shim"
)

func testCollected(t *testing.T, h Harness) {
	b := newBox(t, h)
	tr := b.follow(b.script(`
printf 'url=https://example.com/?a=b\n' >> "$FOUNDRY_OUTPUT"
printf 'text<<END\none\n\ntwo\nEND\n' >> "$FOUNDRY_OUTPUT"
echo '# Summary' >> "$FOUNDRY_SUMMARY"
mkdir "$FOUNDRY_ARTIFACTS/sub"; echo report > "$FOUNDRY_ARTIFACTS/sub/report.txt"
`))
	outputs, err := shim.ParseOutputs(tr.exit.Outputs)
	noError(t, err)
	equal(t, "outputs", len(outputs), 2)
	equal(t, "url", outputs["url"], "https://example.com/?a=b")
	equal(t, "text", outputs["text"], "one\n\ntwo")
	equal(t, "summary", string(tr.exit.Summary), "# Summary\n")

	id := b.script(`echo x > "$FOUNDRY_ARTIFACTS/x"`)
	b.follow(id)
	content, err := b.sb.ReadFile(t.Context(), path.Join(b.shim.Dir(id), shim.ArtifactsDir, "x"), 0, 100)
	noError(t, err)
	equal(t, "the artifact", string(content), "x\n")
}

func testOutputsRefused(t *testing.T, h Harness) {
	b := newBox(t, h)
	for script, want := range map[string]string{
		`head -c 100 /dev/zero > "$FOUNDRY_OUTPUT"`:            "has 100 bytes; the limit is 10",
		`ln -sf /etc/passwd "$FOUNDRY_OUTPUT"`:                 "cannot be read",
		`rm "$FOUNDRY_OUTPUT"; mkfifo "$FOUNDRY_OUTPUT"`:       "not a regular file",
		`rm "$FOUNDRY_OUTPUT"; head -c 10 /dev/zero > nothing`: "",
	} {
		exit := b.follow(b.start(shim.Spec{Script: script, OutputsLimit: 10})).exit
		if exit.Reason != shim.Exited || exit.Outputs != nil || !strings.Contains(exit.OutputsError, want) {
			t.Fatalf("%s ended as %+v", script, exit)
		}
		equal(t, "an error", exit.OutputsError == "", want == "")
	}
	exit := b.follow(b.start(shim.Spec{Script: `echo 123456789 > "$FOUNDRY_SUMMARY"`, SummaryLimit: 4})).exit
	equal(t, "the summary", string(exit.Summary), "1234")
	equal(t, "the summary is cut", exit.SummaryTruncated, true)
}

func testOddBytes(t *testing.T, h Harness) {
	b := newBox(t, h)
	source := rand.NewChaCha8([32]byte{1})
	content := make([]byte, 700_001)
	_, _ = source.Read(content)
	content = append(content, "\x00\x00\xff\xfe\r\r\n\x1b[0m\xc3"...)
	noError(t, b.sb.PutFile(t.Context(), path.Join(b.info.Workspace, "odd"), bytes.NewReader(content), 0o600))
	tr := b.follow(b.script("cat odd & cat odd >&2; wait"))
	equal(t, "stdout is exact", bytes.Equal(tr.stdout.Bytes(), content), true)
	equal(t, "stderr is exact", bytes.Equal(tr.stderr.Bytes(), content), true)
	equal(t, "the output's size", tr.offset, tr.exit.OutputSize)
}

func testLongLine(t *testing.T, h Harness) {
	b := newBox(t, h)
	tr := b.follow(b.script(`head -c 10000000 /dev/zero | tr '\0' x`))
	equal(t, "stdout is exact", bytes.Equal(tr.stdout.Bytes(), bytes.Repeat([]byte{'x'}, 10_000_000)), true)
	equal(t, "it is cut", tr.exit.Truncated, false)
}

func testManyLines(t *testing.T, h Harness) {
	b := newBox(t, h)
	tr := b.follow(b.script(`awk 'BEGIN { for (i = 0; i < 200000; i++) { print "line", i; fflush() } }'`))
	var want bytes.Buffer
	for i := range 200_000 {
		want.WriteString("line " + strconv.Itoa(i) + "\n")
	}
	equal(t, "stdout is exact", bytes.Equal(tr.stdout.Bytes(), want.Bytes()), true)
	// Without pacing there would be about one frame a line.
	if len(tr.frames) > 100_000 {
		t.Fatalf("%d frames for 200,000 lines", len(tr.frames))
	}
}

func testResume(t *testing.T, h Harness) {
	b := newBox(t, h)
	id := b.script("for i in 1 2 3 4 5 6; do echo out $i; echo err $i >&2; sleep 0.01; done")
	whole := b.follow(id)
	offset := int64(0)
	for i := 0; i <= len(whole.frames); i++ {
		res, err := b.shim.Tail(t.Context(), map[uuid.UUID]int64{id: offset}, time.Second)
		noError(t, err)
		equal(t, "directories told", len(res.Runs), 1)
		r := res.Runs[0]
		rest, n, err := shim.DecodeFrames(r.Frames)
		noError(t, err)
		equal(t, "bytes decoded", n, len(r.Frames))
		equal(t, "frames", len(rest), len(whole.frames)-i)
		for j, f := range rest {
			equal(t, "data", string(f.Data), string(whole.frames[i+j].Data))
			equal(t, "position", f.Pos, whole.frames[i+j].Pos)
		}
		equal(t, "next", r.Next, whole.exit.OutputSize)
		equal(t, "the exit is told", r.Exit != nil, true)
		if i < len(whole.frames) {
			offset += shim.FrameHeaderSize + int64(len(whole.frames[i].Data))
		}
	}
}

func testTailNew(t *testing.T, h Harness) {
	b := newBox(t, h)
	old := b.script("echo old; sleep 1000")
	offset := b.until(old, "old").offset
	if h.Here { // the new directory comes long after the others
		eventually(t, "the root has not changed for a while", func() bool {
			info, err := os.Stat(b.info.ShimRoot)
			noError(t, err)
			return time.Since(info.ModTime()) > 200*time.Millisecond
		})
	}
	type answer struct {
		res shim.TailResult
		err error
	}
	answers := make(chan answer, 1)
	go func() {
		res, err := b.shim.Tail(t.Context(), map[uuid.UUID]int64{old: offset}, patience)
		answers <- answer{res, err}
	}()
	if h.Here {
		eventually(t, "the tail is running", func() bool { return len(processesWith(" tail ", b.info.ShimRoot)) == 1 })
	}
	id := b.script("echo young; sleep 1000")
	a := <-answers
	noError(t, a.err)
	equal(t, "directories told", len(a.res.Runs), 1)
	r := a.res.Runs[0]
	equal(t, "the directory", r.Dir, id.String())
	equal(t, "the state", r.State, shim.Started)
	frames, _, err := shim.DecodeFrames(r.Frames)
	noError(t, err)
	equal(t, "the first frame", string(frames[0].Data), "young\n")
}

func testTailDone(t *testing.T, h Harness) {
	b := newBox(t, h)
	id, sealed := b.script("echo x"), uuid.New()
	b.follow(id)
	_, err := b.shim.Seal(t.Context(), sealed)
	noError(t, err)
	for range 2 { // until it is done, it is told, from 0
		res, err := b.shim.Tail(t.Context(), nil, patience)
		noError(t, err)
		equal(t, "directories told", len(res.Runs), 2)
	}
	done := map[uuid.UUID]int64{id: shim.Done, sealed: shim.Done, uuid.New(): shim.Done}
	for _, offsets := range []map[uuid.UUID]int64{done, nil} {
		res, err := b.shim.Tail(t.Context(), offsets, 0)
		noError(t, err)
		equal(t, "directories told", len(res.Runs), 0)
	}
	res, err := b.shim.Tail(t.Context(), map[uuid.UUID]int64{id: 0}, 0)
	noError(t, err)
	equal(t, "directories told when asked for", len(res.Runs), 1)
}

func testTailNothing(t *testing.T, h Harness) {
	b := newBox(t, h)
	noError(t, b.shim.Prepare(t.Context()))
	res, err := b.shim.Tail(t.Context(), nil, 50*time.Millisecond)
	noError(t, err)
	equal(t, "directories told", len(res.Runs), 0)
	equal(t, "the protocol", res.Protocol, shim.Protocol)
	_, err = b.shim.Tail(t.Context(), map[uuid.UUID]int64{uuid.New(): -5}, 0)
	if err == nil {
		t.Fatal("an offset of -5 was taken")
	}
}

// A flood of one node must not hide another, nor make an answer of any size.
func testTailShare(t *testing.T, h Harness) {
	b := newBox(t, h)
	var ids []uuid.UUID
	for range 3 {
		ids = append(ids, b.script("head -c 2000000 /dev/zero; echo done >&2; sleep 1000"))
	}
	for _, id := range ids {
		b.read(id, func(tr *transcript) bool { return tr.stdout.Len() == 2_000_000 && tr.stderr.Len() > 0 })
	}
	res, err := b.shim.Tail(t.Context(), nil, 0)
	noError(t, err)
	equal(t, "directories told", len(res.Runs), len(ids))
	total, some := 0, 0
	for _, r := range res.Runs {
		total += len(r.Frames)
		if len(r.Frames) > 0 {
			some++
		}
		if r.Size < 2_000_000 {
			t.Fatalf("the size told is %d", r.Size)
		}
	}
	equal(t, "directories with frames", some, len(ids))
	if total > shim.MaxTailBytes {
		t.Fatalf("%d bytes in one answer", total)
	}
}

func testOutputLimit(t *testing.T, h Harness) {
	b := newBox(t, h)
	// Far more than a pipe holds: stdout's part is beyond the limit when stderr's begins.
	tr := b.follow(b.start(shim.Spec{
		Script:      "head -c 3000000 /dev/zero; head -c 300000 /dev/zero >&2; echo on >> ran",
		OutputLimit: 100_000,
	}))
	equal(t, "exit code", tr.exit.ExitCode, 0)
	equal(t, "truncated", tr.exit.Truncated, true)
	equal(t, "bytes", tr.stdout.Len(), 100_000)
	equal(t, "bytes of stderr", tr.stderr.Len(), 0)
	equal(t, "the notice is last", tr.frames[len(tr.frames)-1].Stream, shim.Notice)
	equal(t, "notices", strings.Count(tr.notice.String(), "limit of 100000 bytes"), 1)
	equal(t, "the rest of the script", b.file("ran"), "on\n")

	exact := b.follow(b.start(shim.Spec{Script: "printf 12345", OutputLimit: 5}))
	equal(t, "truncated at exactly the limit", exact.exit.Truncated, false)
	equal(t, "stdout", exact.stdout.String(), "12345")
}
