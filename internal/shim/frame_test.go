package shim

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestFramesSurviveAnyCut(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var encoded []byte
		var ends []int
		var frames []Frame
		for range rapid.IntRange(0, 5).Draw(t, "frames") {
			f := Frame{
				Stream: Stream(rapid.IntRange(1, 3).Draw(t, "stream")),
				Time:   time.UnixMicro(rapid.Int64Range(0, 1<<50).Draw(t, "time")),
				Pos:    rapid.Int64Range(0, 1<<60).Draw(t, "pos"),
				Data:   rapid.SliceOfN(rapid.Byte(), 0, 50).Draw(t, "data"),
			}
			frames = append(frames, f)
			encoded = AppendFrame(encoded, f)
			ends = append(ends, len(encoded))
		}
		cut := rapid.IntRange(0, len(encoded)).Draw(t, "cut")
		whole, end := 0, 0
		for whole < len(ends) && ends[whole] <= cut {
			end = ends[whole]
			whole++
		}
		got, n, err := DecodeFrames(encoded[:cut])
		if err != nil || n != end || len(got) != whole || wholeFrames(encoded[:cut]) != end {
			t.Fatalf("%d frames in %d bytes (%v), want %d in %d", len(got), n, err, whole, end)
		}
		for i, f := range got {
			if f.Stream != frames[i].Stream || !f.Time.Equal(frames[i].Time) || f.Pos != frames[i].Pos || !bytes.Equal(f.Data, frames[i].Data) {
				t.Fatalf("frame %d is %+v, want %+v", i, f, frames[i])
			}
		}
	})
}

func TestDamagedFramesAreRecognised(t *testing.T) {
	t.Parallel()
	first := AppendFrame(nil, Frame{Stream: Stdout, Time: time.Now(), Data: []byte("first")})
	whole := AppendFrame(first, Frame{Stream: Stderr, Time: time.Now(), Pos: 7, Data: []byte("second")})
	for i := len(first); i < len(whole); i++ {
		damaged := bytes.Clone(whole)
		damaged[i] ^= 0x10
		frames, n, err := DecodeFrames(damaged)
		// A longer length looks like a frame that is not whole yet; nothing else passes.
		longer := i >= len(first)+8 && i < len(first)+12
		if len(frames) != 1 || n != len(first) || !errors.Is(err, ErrCorrupt) && !longer {
			t.Fatalf("byte %d damaged: %d frames in %d bytes, %v", i, len(frames), n, err)
		}
	}
	if _, _, err := DecodeFrames(make([]byte, 100)); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("zeros decode as %v", err)
	}
}

func FuzzDecodeFrames(f *testing.F) {
	f.Add(AppendFrame(nil, Frame{Stream: Stdout, Data: []byte("x")}))
	f.Add([]byte("FDY1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		frames, n, _ := DecodeFrames(b)
		var again []byte
		for _, f := range frames {
			again = AppendFrame(again, f)
		}
		if len(again) != n || n > len(b) {
			t.Fatalf("%d bytes decoded, %d encoded", n, len(again))
		}
	})
}
