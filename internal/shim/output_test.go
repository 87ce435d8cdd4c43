package shim

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestRecorderEndsAtItsLimit(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		limit     int64
		writes    []string
		want      string
		truncated bool
	}{
		"below":          {10, []string{"abc", "def"}, "abcdef", false},
		"exactly":        {6, []string{"abc", "def"}, "abcdef", false},
		"in a write":     {5, []string{"abc", "def", "ghi"}, "abcde", true},
		"between writes": {6, []string{"abc", "def", "ghi", "jkl"}, "abcdef", true},
		"empty writes":   {3, []string{"", "abc", ""}, "abc", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, name := testRecorder(t, c.limit)
			for _, w := range c.writes {
				r.record(Stdout, append(make([]byte, FrameHeaderSize), w...))
			}
			stdout, notices := decodeFile(t, name)
			if stdout != c.want || strings.Count(notices, "\n") != map[bool]int{true: 1}[c.truncated] {
				t.Fatalf("stored %q and notices %q", stdout, notices)
			}
			size, truncated, err := r.result()
			if info, _ := os.Stat(name); truncated != c.truncated || err != nil || size != info.Size() {
				t.Fatalf("result is %d, %v, %v of %d bytes", size, truncated, err, info.Size())
			}
		})
	}
}

// A disk that is full in the middle of a frame leaves only whole ones, and the pump goes on.
func TestRecorderStopsAtAFailedWrite(t *testing.T) {
	t.Parallel()
	r, name := testRecorder(t, 1<<20)
	r.record(Stdout, append(make([]byte, FrameHeaderSize), "stored"...))
	torn, err := os.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer torn.Close()
	r.file = torn // writing to it fails
	pump(strings.NewReader("lost"), Stdout, r)
	r.file, _ = os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
	pump(strings.NewReader("late"), Stdout, r)
	if stdout, _ := decodeFile(t, name); stdout != "stored" {
		t.Fatalf("stored %q", stdout)
	}
	if _, _, err := r.result(); err == nil {
		t.Fatal("the failure is not told")
	}
}

// A disk that has room again in time loses nothing; one that stays full is given up.
func TestRecorderWaitsForRoom(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fails  time.Duration
		want   string
		waited time.Duration
	}{
		"for a moment": {time.Second, "stored late", time.Second},
		"for too long": {time.Hour, "stored ", roomPatience},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, name := testRecorder(t, 1<<20)
			synctest.Test(t, func(t *testing.T) {
				pump(strings.NewReader("stored "), Stdout, r)
				file, ok := r.file.(*os.File)
				if !ok {
					t.Fatal("the recorder does not write to a file")
				}
				began := time.Now()
				r.file = fullFile{File: file, until: began.Add(c.fails)}
				pump(strings.NewReader("late"), Stdout, r)
				if waited := time.Since(began); waited < c.waited || waited > c.waited+2*roomPoll {
					t.Errorf("waited %v", waited)
				}
			})
			if stdout, _ := decodeFile(t, name); stdout != c.want {
				t.Errorf("stored %q, want %q", stdout, c.want)
			}
			if _, _, err := r.result(); (err == nil) != (c.fails < roomPatience) {
				t.Errorf("the result tells %v", err)
			}
		})
	}
}

// fullFile tears every write until a time.
type fullFile struct {
	*os.File
	until time.Time
}

func (f fullFile) Write(b []byte) (int, error) {
	if !time.Now().Before(f.until) {
		return f.File.Write(b)
	}
	n, err := f.File.Write(b[:len(b)/2])
	return n, errors.Join(err, syscall.ENOSPC)
}

func TestPumpIsExact(t *testing.T) {
	t.Parallel()
	content := bytes.Repeat([]byte("0123456789abcdef\x00\xff\n"), 20_000)
	r, name := testRecorder(t, 1<<30)
	pump(bytes.NewReader(content), Stdout, r)
	if stdout, _ := decodeFile(t, name); stdout != string(content) {
		t.Fatalf("%d bytes of %d, or others", len(stdout), len(content))
	}
}

// The burst is free; after it a frame costs its refill.
func TestPacerBoundsFrames(t *testing.T) {
	t.Parallel()
	p := pacer{budget: pumpBurst, last: time.Now()}
	began := time.Now()
	for range pumpBurst + 40 {
		p.wait()
	}
	if lasted := time.Since(began); lasted < 30*pumpPause {
		t.Fatalf("%d waits lasted %v", pumpBurst+40, lasted)
	}
}

func testRecorder(t *testing.T, limit int64) (r *recorder, name string) {
	t.Helper()
	name = filepath.Join(t.TempDir(), OutputFile)
	r, err := newRecorder(name, limit)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.file.Close() })
	return r, name
}

func decodeFile(t *testing.T, name string) (stdout, notices string) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	frames, n, err := DecodeFrames(b)
	if err != nil || n != len(b) {
		t.Fatalf("%d of %d bytes are frames: %v", n, len(b), err)
	}
	for _, frame := range frames {
		if frame.Stream == Notice {
			notices += string(frame.Data)
			continue
		}
		if frame.Pos != int64(len(stdout)) {
			t.Fatalf("a frame at %d after %d bytes", frame.Pos, len(stdout))
		}
		stdout += string(frame.Data)
	}
	return stdout, notices
}
