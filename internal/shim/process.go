package shim

import (
	"os"
	"syscall"
	"time"
)

// process runs a command as a child of the supervisor, which adopts whatever the command's
// children leave behind.
type process struct {
	cmd command

	pid   int
	exits chan status
	gone  chan struct{} // closed when this process has no children
}

func (p *process) start(stdout, stderr *os.File) error {
	becomeSubreaper()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	p.pid, err = p.cmd.execute([]uintptr{null.Fd(), stdout.Fd(), stderr.Fd()}, true)
	if err != nil {
		return err
	}
	p.exits, p.gone = make(chan status, 1), make(chan struct{})
	go reap(p.pid, p.exits, p.gone)
	return nil
}

func (p *process) exited() <-chan status { return p.exits }

func (p *process) signal(s syscall.Signal) {
	select {
	case <-p.gone: // so is the group, and its number may be another's
	default:
		_ = syscall.Kill(-p.pid, s)
	}
}

// end kills generation after generation: the children of a killed process become children of
// this one.
func (p *process) end() {
	p.signal(syscall.SIGKILL)
	tick := time.NewTicker(killPoll)
	defer tick.Stop()
	for {
		select {
		case <-p.gone:
			return
		case <-tick.C:
			killChildren()
		}
	}
}
