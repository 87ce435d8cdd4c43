package shim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Main is the shim's command line; args come after the words that call the shim, and must be
// the end of os.Args, since the shim starts itself again. It prints one JSON line and returns
// the exit code: 0 when that line is an answer, 1 when it tells why there is none, 2 for usage.
func Main(args []string, stdin io.Reader, stdout io.Writer) int {
	if len(args) == 0 {
		return answer(stdout, Result{Error: "usage: shim start|seal|signal|tail|list|version"}, 2)
	}
	switch name, rest := args[0], args[1:]; {
	case name == "start" && len(rest) == 1:
		return answerState(stdout, startWith(len(args)), rest[0])
	case name == "seal" && len(rest) == 1:
		return answerState(stdout, seal, rest[0])
	case name == "signal" && len(rest) >= 2:
		return answerState(stdout, func(d directory) (Result, error) { return signalAll(d, rest[1:]) }, rest[0])
	case name == "tail" && len(rest) > 0:
		return tailMain(rest, stdout)
	case name == "list" && len(rest) > 1:
		return listMain(rest, stdout)
	case name == "version" && len(rest) == 0:
		return answer(stdout, Result{}, 0)
	case name == "supervise" && len(rest) == 1:
		return supervise(directory{rest[0]})
	case name == "init" && len(rest) == 0:
		return initMain(stdin)
	default:
		return answer(stdout, Result{Error: "usage: shim start DIR | seal DIR | signal DIR TERM|KILL… | tail ROOT [--wait DURATION] [--checkpoints] [NAME:OFFSET[:STAMP]…] | list DIR artifacts|checkpoint [--settled] [--after NANOSECONDS:NAME] | version"}, 2)
	}
}

func startWith(n int) func(directory) (Result, error) {
	return func(d directory) (Result, error) {
		self, err := selfCommand(n)
		if err != nil {
			return Result{}, err
		}
		return start(d, self)
	}
}

// selfCommand is how this process was called, without its last n arguments: the program, and
// the subcommand where the shim is part of a larger one.
func selfCommand(n int) ([]string, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return append([]string{exe}, os.Args[1:len(os.Args)-n]...), nil
}

func answerState(stdout io.Writer, call func(directory) (Result, error), dir string) int {
	path, err := filepath.Abs(dir)
	if err != nil {
		return answer(stdout, Result{Error: err.Error()}, 1)
	}
	r, err := call(directory{path})
	if err != nil {
		return answer(stdout, Result{Error: err.Error()}, 1)
	}
	return answer(stdout, r, 0)
}

func answer(stdout io.Writer, r Result, code int) int {
	r.Protocol = Protocol
	return print1(stdout, r, code)
}

func print1(stdout io.Writer, line any, code int) int {
	if err := json.NewEncoder(stdout).Encode(line); err != nil {
		return 1
	}
	return code
}

func tailMain(args []string, stdout io.Writer) int {
	t, err := parseTail(args)
	if err == nil {
		var runs []RunTail
		if runs, err = t.run(); err == nil {
			return print1(stdout, TailResult{Protocol: Protocol, Runs: runs}, 0)
		}
	}
	return print1(stdout, TailResult{Protocol: Protocol, Error: err.Error()}, 1)
}

func listMain(args []string, stdout io.Writer) int {
	result, err := list(args)
	if err != nil {
		result = ListResult{Error: err.Error()}
	}
	result.Protocol = Protocol
	if err != nil {
		return print1(stdout, result, 1)
	}
	return print1(stdout, result, 0)
}

func list(args []string) (ListResult, error) {
	d := directory{args[0]}
	var after mark
	before := int64(anyTime)
	for rest := args[2:]; len(rest) > 0; rest = rest[1:] {
		switch {
		case rest[0] == "--settled":
			before = settledBy(time.Now())
		case rest[0] == "--after" && len(rest) > 1:
			rest = rest[1:]
			var err error
			if after, err = parseMark(rest[0]); err != nil {
				return ListResult{}, err
			}
		default:
			return ListResult{}, fmt.Errorf("list does not know %q", rest[0])
		}
	}
	switch args[1] {
	case "artifacts":
		return listArtifacts(d)
	case "checkpoint":
		return listCheckpoint(d, after, before)
	}
	return ListResult{}, fmt.Errorf("list knows artifacts and checkpoint, not %q", args[1])
}

func parseTail(args []string) (*tailer, error) {
	if len(args) == 0 {
		return nil, errors.New("tail needs a folder")
	}
	t := &tailer{root: args[0], offsets: make(map[string]int64), stamps: make(map[string]int64)}
	for rest := args[1:]; len(rest) > 0; rest = rest[1:] {
		if rest[0] == "--wait" {
			if len(rest) == 1 {
				return nil, errors.New("--wait needs a duration")
			}
			rest = rest[1:]
			wait, err := time.ParseDuration(rest[0])
			if err != nil {
				return nil, fmt.Errorf("--wait: %w", err)
			}
			t.wait = wait
			continue
		}
		if rest[0] == "--checkpoints" {
			t.watch = true
			continue
		}
		if err := t.parseOffset(rest[0]); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// parseOffset reads NAME:OFFSET, or NAME:OFFSET:STAMP of a directory whose checkpoints were seen.
func (t *tailer) parseOffset(arg string) error {
	name, numbers, _ := strings.Cut(arg, ":")
	text, stamp, stamped := strings.Cut(numbers, ":")
	offset, err := strconv.ParseInt(text, 10, 64)
	if stamped && err == nil {
		t.stamps[name], err = strconv.ParseInt(stamp, 10, 64)
	}
	if err != nil || offset < Done || name == "" || name != filepath.Base(name) {
		return fmt.Errorf("%q is not NAME:OFFSET", arg)
	}
	t.offsets[name] = offset
	return nil
}
