package redact

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// benchmarkPatterns are 20 secrets as people have them: tokens, connection strings,
// passwords and a key of several lines.
func benchmarkPatterns() *Patterns {
	values := []Value{Value("-----BEGIN PRIVATE KEY-----\n" + randomText(99, 64) + "\n" + randomText(98, 64) + "\n-----END PRIVATE KEY-----\n")}
	for i := range uint64(19) {
		switch i % 4 {
		case 0:
			values = append(values, Value("ghp_"+randomText(i, 36)))
		case 1:
			values = append(values, Value("postgres://app:"+randomText(i, 24)+"@db.internal:5432/app?sslmode=require"))
		case 2:
			values = append(values, Value(randomText(i, 12)))
		default:
			values = append(values, Value(fmt.Sprintf("%x", randomText(i, 16))))
		}
	}
	return New(values)
}

// logText returns about n bytes of lines as servers and build tools print them.
func logText(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	var text []byte
	for len(text) < n {
		text = fmt.Appendf(text, "2026-01-02T15:04:%02d.%06dZ INFO  http: GET /api/v1/executions/%x?limit=%d status=200 bytes=%d\n",
			r.IntN(60), r.IntN(1e6), r.Uint64(), r.IntN(200), r.IntN(1e5))
		text = fmt.Appendf(text, `{"level":"info","message":"compiled package","package":"internal/%s","ms":%d}`+"\n",
			randomText(r.Uint64(), 8), r.IntN(1000))
		text = fmt.Appendf(text, "    ok   test %d: the quick brown fox jumps over the lazy dog and goes home\n", r.IntN(1e4))
	}
	return text[:n]
}

func BenchmarkWrite(b *testing.B) {
	chunk := logText(64 << 10)
	secret := string(chunk[:30<<10]) + "ghp_" + randomText(0, 36) + string(chunk[30<<10:])
	for name, bm := range map[string]struct {
		patterns *Patterns
		chunk    []byte
	}{
		"none":            {nil, chunk},
		"20secrets":       {benchmarkPatterns(), chunk},
		"20secrets/match": {benchmarkPatterns(), []byte(secret)},
		"20secrets/4KiB":  {benchmarkPatterns(), chunk[:4<<10]},
		"worst":           {New([]Value{Value(make([]byte, 1024)), Value(append(make([]byte, 1000), 1))}), make([]byte, 64<<10)},
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(bm.chunk)))
			b.ReportAllocs()
			w := NewWriter(NewSet(bm.patterns), Position{})
			for b.Loop() {
				w.Write(bm.chunk)
			}
		})
	}
}

func BenchmarkNew(b *testing.B) {
	var values []Value
	for i := range uint64(4) {
		values = append(values, Value(randomText(i, 64<<10)))
	}
	for b.Loop() {
		New(values)
	}
}
