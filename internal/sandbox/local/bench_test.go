package local_test

import (
	"os"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"foundry/internal/sandbox"
	"foundry/internal/sandbox/local"
	"foundry/internal/sandbox/sandboxtest"
	"foundry/internal/shim"
)

// BenchmarkFirstOutput measures from an empty machine to the first byte of a command, in its
// parts. Removal is not part of it.
func BenchmarkFirstOutput(b *testing.B) {
	for _, level := range []local.Level{local.Process, local.Bwrap} {
		b.Run(string(level), func(b *testing.B) {
			executable := sandboxtest.ShimBinary(b)
			p, err := local.New(b.Context(), local.Config{StateDir: b.TempDir(), Level: level, Executable: executable, Log: zerolog.Nop()})
			if err != nil {
				b.Skip(err)
			}
			var created, started, seen time.Duration
			for b.Loop() {
				began := time.Now()
				info, err := p.Create(b.Context(), sandbox.Spec{ID: uuid.New()})
				if err != nil {
					b.Fatal(err)
				}
				sb, err := p.Open(b.Context(), info.ProviderID)
				if err != nil {
					b.Fatal(err)
				}
				created += time.Since(began)
				client, began2 := sandbox.NewShim(sb, info), time.Now()
				if _, err := client.Start(b.Context(), uuid.New(), shim.Spec{Script: "echo hello; sleep 1000"}, os.Environ()); err != nil {
					b.Fatal(err)
				}
				started += time.Since(began2)
				if r, err := client.Tail(b.Context(), nil, 10*time.Second); err != nil || len(r.Runs) != 1 {
					b.Fatalf("%+v, %v", r, err)
				}
				seen += time.Since(began)
				b.StopTimer()
				if err := p.Destroy(b.Context(), info.ProviderID); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			n := float64(b.N) * float64(time.Millisecond)
			b.ReportMetric(float64(created)/n, "ms-create")
			b.ReportMetric(float64(started)/n, "ms-start")
			b.ReportMetric(float64(seen)/n, "ms-first-output")
		})
	}
}
