package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"testing"

	"foundry/api/client"
)

const oddBytes = `name: odd
files: { out.bin: out.bin, err.bin: err.bin }
nodes:
  odd:
    run: |
      cat err.bin >&2 &
      cat out.bin
      wait
  long:
    run: head -c 10000000 /dev/zero | tr '\0' x
  fast:
    run: seq 1 400000
`

// odd makes bytes of all values, with runs that look like text, and none of it whole UTF-8.
func odd(seed uint64, size int) []byte {
	random := rand.New(rand.NewPCG(seed, 0))
	pieces := [][]byte{
		{0},
		{0xff, 0xfe},
		[]byte("\r\n"), []byte("progress 1%\rprogress 2%\r"), []byte("text, ümläut\n"),
		{0xe2, 0x82},
		[]byte("\x1b[31mred\x1b[0m"), []byte("::"), []byte("data: x\n\n"),
		{'\n'},
	}
	var b bytes.Buffer
	for b.Len() < size {
		if random.IntN(3) == 0 {
			b.WriteByte(byte(random.IntN(256)))
			continue
		}
		b.Write(pieces[random.IntN(len(pieces))])
	}
	return b.Bytes()[:size]
}

func TestOutputArrivesByteForByte(t *testing.T) {
	t.Parallel()
	i := start(t)
	out, err := odd(1, 700_000), odd(2, 500_000)
	i.push(oddBytes, map[string][]byte{"out.bin": out, "err.bin": err})
	id := i.queue("odd", nil)
	var lines bytes.Buffer
	for n := range 400_000 {
		fmt.Fprintln(&lines, n+1)
	}
	tests := []struct {
		node, stream string
		want         []byte
	}{
		{"odd", "stdout", out},
		{"odd", "stderr", err},
		{"long", "stdout", bytes.Repeat([]byte("x"), 10_000_000)},
		{"long", "stderr", nil},
		{"fast", "stdout", lines.Bytes()},
	}
	var following []*proc
	for _, tt := range tests {
		following = append(following, spawn(t, i.dir, i.client(), nil, "logs", id, "-f", "--node", tt.node, "--stream", tt.stream))
	}
	if e := i.ended(id); e.Status != client.ExecutionStatusCompleted {
		t.Fatalf("the execution is %s: %+v", e.Status, e.Error)
	}
	for n, tt := range tests {
		t.Run(tt.node+" "+tt.stream, func(t *testing.T) {
			t.Parallel()
			i, following := i.in(t), following[n]
			following.wait()
			same(t, "logs -f", following.out.Bytes(), tt.want)
			same(t, "logs", i.cli("logs", id, "--node", tt.node, "--stream", tt.stream).out.Bytes(), tt.want)
			same(t, "events", i.eventBytes(id, tt.node, tt.stream), tt.want)
		})
	}
}

func same(t testing.TB, what string, got, want []byte) {
	t.Helper()
	if bytes.Equal(got, want) {
		return
	}
	at := 0
	for at < min(len(got), len(want)) && got[at] == want[at] {
		at++
	}
	t.Errorf("%s: %d bytes, want %d; they differ from byte %d on: %.40q, want %.40q", what, len(got), len(want), at, got[at:], want[at:])
}

// eventBytes puts one stream together from the JSON pages, and checks that the offsets are those of its bytes.
func (i *installation) eventBytes(id, node, stream string) []byte {
	i.t.Helper()
	var all []byte
	for after := int64(0); ; {
		var page client.EventPage
		path := "/executions/" + id + "/events?logs=" + node + "&after=" + strconv.FormatInt(after, 10)
		if status := i.call(http.MethodGet, path, nil, &page); status != http.StatusOK {
			i.t.Fatalf("reading events: %d", status)
		}
		for _, event := range page.Data {
			if event.Type != "log" {
				continue
			}
			chunk := decode[client.LogChunk](i.t, event.Data)
			if string(chunk.Stream) != stream {
				continue
			}
			if chunk.Offset != int64(len(all)) {
				i.t.Fatalf("a chunk of %s has offset %d, want %d", node, chunk.Offset, len(all))
			}
			all = append(append(all, chunk.Text...), chunk.Base64...)
		}
		if page.NextCursor == nil {
			return all
		}
		after = *page.NextCursor
	}
}
