package pgdev

import "testing"

// A supervisor that was started and comes late leaves alone what nobody uses any more.
func TestSupervisorWithoutUsers(t *testing.T) {
	t.Parallel()
	c := use{Dir: clusterDir(t), Bin: fakeBinaries(t, openTempDir(t), 16)}.config()
	p, err := findPlace(c, 16)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- supervision{Place: p, Bin: c.Bin, Kind: Test}.run() }() // it keeps its thread
	if err := <-ended; err != nil {
		t.Errorf("it did something: %v", err)
	}
	if supervised, err := held(p.server()); err != nil || supervised {
		t.Errorf("it holds the lock: %v, %v", supervised, err)
	}
}
