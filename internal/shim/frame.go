package shim

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"time"
)

// Stream names where a frame's bytes came from.
type Stream byte

// Streams of a frame.
const (
	Stdout Stream = 1
	Stderr Stream = 2
	Notice Stream = 3 // the shim's own words, such as that the output limit was reached
)

// Sizes of the encoding in bytes.
const (
	FrameHeaderSize = 32
	MaxFrameData    = 64 << 10
	MaxFrameSize    = FrameHeaderSize + MaxFrameData
)

// Frame is one record of the output file: bytes of one stream in the order of arrival.
//
//	0  4 magic "FDY1"      4  1 stream     5  3 zero
//	8  4 length of data   12  4 CRC-32C of the header without this field, and the data
//	16 8 time, µs since the Unix epoch    24  8 raw position of the data in its stream
//	32   data
//
// Integers are big-endian. The sum makes a torn or zeroed tail recognisable after a crash.
type Frame struct {
	Stream Stream
	Time   time.Time // microseconds
	Pos    int64     // bytes of this stream before Data, dropped ones not counted
	Data   []byte
}

// ErrCorrupt is returned where the bytes are not a frame and more bytes would not make them one.
var ErrCorrupt = errors.New("not a frame of the shim's output")

const frameMagic = "FDY1"

// AppendFrame appends the encoding of a frame whose data has at most MaxFrameData bytes.
func AppendFrame(b []byte, f Frame) []byte {
	start := len(b)
	b = append(b, make([]byte, FrameHeaderSize)...)
	b = append(b, f.Data...)
	putHeader(b[start:], f)
	return b
}

// putHeader writes the header of f, whose data already follow it in b.
func putHeader(b []byte, f Frame) {
	copy(b, frameMagic)
	b[4], b[5], b[6], b[7] = byte(f.Stream), 0, 0, 0
	binary.BigEndian.PutUint32(b[8:], uint32(len(f.Data)))
	binary.BigEndian.PutUint64(b[16:], uint64(f.Time.UnixMicro()))
	binary.BigEndian.PutUint64(b[24:], uint64(f.Pos))
	binary.BigEndian.PutUint32(b[12:], frameSum(b))
}

// DecodeFrames decodes the whole frames at the start of b and returns the number of bytes
// they take; what follows is a partial frame (err is nil) or corrupt (ErrCorrupt).
// The frames' data are slices of b.
func DecodeFrames(b []byte) (frames []Frame, n int, err error) {
	for {
		f, size, err := decodeFrame(b[n:])
		if err != nil || size == 0 {
			return frames, n, err
		}
		frames = append(frames, f)
		n += size
	}
}

// wholeFrames returns how many bytes of b are whole frames, looking at lengths only.
func wholeFrames(b []byte) int {
	n := 0
	for len(b)-n >= FrameHeaderSize {
		size := FrameHeaderSize + int(binary.BigEndian.Uint32(b[n+8:]))
		if size > MaxFrameSize || len(b)-n < size {
			break
		}
		n += size
	}
	return n
}

func decodeFrame(b []byte) (f Frame, size int, err error) {
	if len(b) < FrameHeaderSize {
		return Frame{}, 0, nil
	}
	length := int(binary.BigEndian.Uint32(b[8:]))
	if string(b[:4]) != frameMagic || length > MaxFrameData {
		return Frame{}, 0, ErrCorrupt
	}
	size = FrameHeaderSize + length
	if len(b) < size {
		return Frame{}, 0, nil
	}
	if binary.BigEndian.Uint32(b[12:]) != frameSum(b[:size]) {
		return Frame{}, 0, ErrCorrupt
	}
	return Frame{
		Stream: Stream(b[4]),
		Time:   time.UnixMicro(int64(binary.BigEndian.Uint64(b[16:]))),
		Pos:    int64(binary.BigEndian.Uint64(b[24:])),
		Data:   b[FrameHeaderSize:size:size],
	}, size, nil
}

// frameSum is the checksum of one encoded frame without its own field.
func frameSum(b []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	sum := crc32.Update(0, table, b[:12])
	return crc32.Update(sum, table, b[16:])
}
