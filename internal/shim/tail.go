package shim

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Pace of tail. Polling costs two stats a directory; it needs no inotify, whose limits and file
// systems differ.
const (
	tailPollMin  = 4 * time.Millisecond
	tailPollMax  = 15 * time.Millisecond
	tailCollect  = 100 * time.Millisecond // a steady flow is collected for
	tailLostPoll = 500 * time.Millisecond // between looks at a silent directory's lock, and at its checkpoints
	// A folder's time stamp is as coarse as the kernel's tick: two changes within it look like one.
	stampSlack = 50 * time.Millisecond
)

// tailer is one tail call.
type tailer struct {
	root    string
	wait    time.Duration
	offsets map[string]int64 // as the caller gave them
	watch   bool             // the checkpoints, whose stamps are those that he has seen
	stamps  map[string]int64

	stamp   time.Time // of root, when it was last read
	settled bool      // it was no longer young then: what has come since has another stamp
	runs    []*follower
	known   map[string]bool
}

// follower looks at one directory.
type follower struct {
	name   string
	dir    directory
	offset int64

	size   int64
	state  State
	exit   *Exit
	looked time.Time // when state was last asked for

	watch   bool
	seen    int64     // stamp of the checkpoints that the caller knows
	stamp   int64     // that he is to be told; 0: none
	watched time.Time // when it was last looked for
}

// run waits for something to tell, or for the end of its time, and tells it.
func (t *tailer) run() ([]RunTail, error) {
	if err := t.markDone(); err != nil {
		return nil, err
	}
	t.known = make(map[string]bool)
	deadline := time.Now().Add(t.wait)
	var since time.Time // of the first news
	told, poll := int64(0), tailPollMin
	for {
		if err := t.discover(); err != nil {
			return nil, err
		}
		bytes, final, err := t.look()
		if err != nil {
			return nil, err
		}
		news := bytes > 0 || final
		if news && since.IsZero() {
			since = time.Now()
		}
		steady := bytes > told && bytes < MaxTailBytes && time.Since(since) < tailCollect
		if final || news && !steady || !news && !time.Now().Before(deadline) {
			return t.tell()
		}
		told = bytes
		if news {
			poll = tailPollMin
		}
		time.Sleep(poll)
		poll = min(poll+time.Millisecond, tailPollMax)
	}
}

// markDone notes which directories need not be told again.
func (t *tailer) markDone() error {
	for name, offset := range t.offsets {
		if offset != Done {
			continue
		}
		f, err := os.OpenFile(filepath.Join(t.root, name, doneFile), os.O_WRONLY|os.O_CREATE, 0o600)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return nil
}

// discover adds the directories that are new in root.
func (t *tailer) discover() error {
	info, err := os.Stat(t.root)
	if os.IsNotExist(err) {
		return nil // nothing was started yet
	}
	if err != nil {
		return err
	}
	stamp := info.ModTime()
	if stamp.Equal(t.stamp) && t.settled {
		return nil
	}
	t.stamp, t.settled = stamp, time.Since(stamp) > stampSlack
	entries, err := os.ReadDir(t.root)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") || t.known[e.Name()] {
			continue
		}
		t.known[e.Name()] = true
		offset, named := t.offsets[e.Name()]
		d := directory{filepath.Join(t.root, e.Name())}
		if offset == Done || !named && exists(d.file(doneFile)) {
			continue
		}
		t.runs = append(t.runs, &follower{name: e.Name(), dir: d, offset: offset, watch: t.watch, seen: t.stamps[e.Name()]})
	}
	return nil
}

// look returns how many bytes there are to tell, and whether a directory has come to its end, or has something else that is told at once.
func (t *tailer) look() (bytes int64, final bool, err error) {
	for _, f := range t.runs {
		if err := f.look(); err != nil {
			return 0, false, err
		}
		if f.readable() {
			bytes += f.size - f.offset
		}
		final = final || f.state.Final() || f.stamp != 0
	}
	return bytes, final, nil
}

// look asks for the state before the size, so that the size of one that has ended is final.
func (f *follower) look() error {
	if !f.state.Final() && (exists(f.dir.file(exitFile)) || time.Since(f.looked) > tailLostPoll) {
		state, exit, err := f.dir.state()
		if err != nil {
			return err
		}
		f.state, f.exit = state, exit
		if state != New {
			f.looked = time.Now()
		}
	}
	f.size = f.dir.outputSize()
	if f.watch && f.stamp == 0 && f.state == Started && time.Since(f.watched) > tailLostPoll {
		f.stamp, f.watched = f.checkpoints(), time.Now()
	}
	return nil
}

// checkpoints returns the stamp of the checkpoints folder, 0 while there is nothing new in it. A change of the last moment is told with
// what follows in the same moment. The stamp is read after the entries, so that it is not older than what they tell.
func (f *follower) checkpoints() int64 {
	dir := f.dir.file(CheckpointDir)
	if info, err := os.Lstat(dir); err != nil || !info.IsDir() || !holds(dir, true) {
		return 0
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return 0
	}
	changed := info.ModTime()
	if changed.UnixNano() == f.seen || time.Since(changed) < stampSlack {
		return 0
	}
	return changed.UnixNano()
}

// readable reports whether there is at least one whole frame, or something that can never
// become one, which ReadFrames will tell.
func (f *follower) readable() bool {
	available := f.size - f.offset
	if available < FrameHeaderSize || available >= MaxFrameSize {
		return available >= MaxFrameSize
	}
	b, err := f.read(available)
	return err == nil && wholeFrames(b) > 0
}

func (f *follower) read(n int64) ([]byte, error) {
	file, err := os.Open(f.dir.file(OutputFile))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	b := make([]byte, n)
	read, err := file.ReadAt(b, f.offset)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return b[:read], err
}

// tell shares the room in one answer between the directories that have news.
func (t *tailer) tell() ([]RunTail, error) {
	slices.SortFunc(t.runs, func(a, b *follower) int { return strings.Compare(a.name, b.name) })
	readable := int64(0)
	for _, f := range t.runs {
		if f.readable() {
			readable++
		}
	}
	room := int64(MaxTailBytes)
	share := max(MaxFrameSize, room/max(readable, 1))
	told := []RunTail{}
	for _, f := range t.runs {
		news := f.readable()
		if !news && !f.state.Final() && f.stamp == 0 {
			continue
		}
		r := RunTail{Dir: f.name, State: f.state, Offset: f.offset, Next: f.offset, Size: f.size, Checkpoints: f.stamp}
		if news {
			b, err := f.read(min(share, room, f.size-f.offset))
			if err != nil {
				return nil, err
			}
			r.Frames = b[:wholeFrames(b)]
			r.Next += int64(len(r.Frames))
			room -= int64(len(r.Frames))
		}
		if r.State == Ended && r.Next >= f.exit.OutputSize {
			r.Exit = f.exit
		}
		told = append(told, r)
	}
	return told, nil
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}
