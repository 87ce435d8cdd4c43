package shim

import (
	"bytes"
	"os"
	"syscall"
	"testing"
	"time"
)

// nothingLeft runs a command that has exited and left no process.
type nothingLeft struct{ onEnd func() }

func (nothingLeft) start(_, _ *os.File) error { return nil }
func (nothingLeft) exited() <-chan status     { return nil }
func (nothingLeft) signal(syscall.Signal)     {}
func (r nothingLeft) end()                    { r.onEnd() }

// heldFile stores nothing before it is let go.
type heldFile struct {
	outputFile

	letGo <-chan struct{}
}

func (f heldFile) Write(b []byte) (int, error) {
	<-f.letGo
	return f.outputFile.Write(b)
}

// A pump that comes to its pipe late, because the disk or the machine is slow, finds in it what the command wrote, whoever else still holds the pipe.
func TestDrainRecordsWhatIsInThePipe(t *testing.T) {
	t.Parallel()
	for name, held := range map[string]bool{"of a command that is gone": false, "of a command that gave it to a stranger": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stdout, writer, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer stdout.Close()
			defer writer.Close()
			rec, name := testRecorder(t, 1<<20)
			letGo := make(chan struct{})
			rec.file = heldFile{rec.file, letGo}
			s := &supervisor{rec: rec, run: nothingLeft{onEnd: func() { time.AfterFunc(3*time.Second/2, func() { close(letGo) }) }}}
			s.pumps.Go(func() { pump(stdout, Stdout, rec) })
			content := bytes.Repeat([]byte("0123456789abcde\n"), 6000) // more than a pump reads at once; the rest stays in the pipe
			if _, err := writer.Write(content); err != nil {
				t.Fatal(err)
			}
			if !held {
				writer.Close()
			}
			s.drain([]*os.File{stdout})
			if stored, _ := decodeFile(t, name); stored != string(content) {
				t.Errorf("%d bytes of %d are stored, or others", len(stored), len(content))
			}
			if _, _, err := rec.result(); err != nil {
				t.Error(err)
			}
		})
	}
}
