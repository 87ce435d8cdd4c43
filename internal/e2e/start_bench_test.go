package e2e

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"foundry/api/client"
)

// Idle latency, one execution at a time: from before the POST to the time that the database gave to
// node.started. Both clocks are this machine's.
func BenchmarkPostToNodeStarted(b *testing.B) {
	for _, kind := range []struct{ name, text string }{
		{"set", "name: bench\nnodes:\n  only:\n    set: { x: \"1\" }\n"},
		{"run", "name: bench\nnodes:\n  only:\n    run: \"true\"\n"},
	} {
		b.Run(kind.name, func(b *testing.B) {
			i := start(b)
			i.push(kind.text, nil)
			i.ended(i.queue("bench", nil)) // connections and statements are warm
			var took []time.Duration
			for b.Loop() {
				before := time.Now()
				id := i.queue("bench", nil)
				i.ended(id)
				took = append(took, i.started(id).Sub(before))
			}
			slices.Sort(took)
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(milliseconds(took[len(took)/2]), "p50-ms")
			b.ReportMetric(milliseconds(took[len(took)*99/100]), "p99-ms")
		})
	}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// started is when the execution's first node was.
func (i *installation) started(id string) time.Time {
	i.t.Helper()
	var page client.EventPage
	if code := i.call(http.MethodGet, "/executions/"+id+"/events", nil, &page); code != http.StatusOK {
		i.t.Fatalf("the events answer %d", code)
	}
	for _, e := range page.Data {
		if e.Type == "node.started" {
			return e.Time
		}
	}
	i.t.Fatal("no node has started")
	return time.Time{}
}
