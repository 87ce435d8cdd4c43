package check

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"foundry/chaos/plan"
)

// Evidence is what was seen from outside.
type Evidence struct {
	World     *World
	Workflows map[string]*plan.Workflow // by slug
	Accepted  []Accepted
	Notes     map[uuid.UUID][]Note // by execution: what its commands have noted in the ledger, in order
	// Sandboxes are the folders that the provider still has, by its ids.
	Sandboxes []string
	// Processes are those that still run and belong to a sandbox, in words.
	Processes []string
	// Misplaced is foundry_executions_misplaced_total, summed over all control planes that there were.
	Misplaced float64
}

// Accepted is an execution that a client was promised, with what else it was told about it.
type Accepted struct {
	ID       uuid.UUID
	Workflow string // slug
	Child    bool   // nobody asked for it: a node of another runs it. It is here for what was told about it.
	Asked    bool   // a cancel was sent, whatever became of it
	Canceled bool   // a cancel was answered with success
	// Decided are the answers to approvals that were accepted, by node.
	Decided map[string]bool
}

// Note is a line of the ledger.
type Note struct {
	Node    string
	Index   int
	Attempt int
	Word    string // begin, end, or found= and the checkpoints that it was given
	At      time.Time
}

// Violation is a broken promise.
type Violation struct {
	Rule string
	Text string
}

// String is one line.
func (v Violation) String() string { return v.Rule + ": " + v.Text }

// ReadLedger reads the notes of all executions. A file that is no ledger of an execution is an error, a line that is none as well.
func ReadLedger(dir string) (map[uuid.UUID][]Note, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("reading the ledger: %w", err)
	}
	notes := map[uuid.UUID][]Note{}
	for _, entry := range entries {
		id, err := uuid.Parse(entry.Name())
		if err != nil {
			return nil, fmt.Errorf("the ledger has %q, which is no execution", entry.Name())
		}
		if notes[id], err = readNotes(filepath.Join(dir, entry.Name())); err != nil {
			return nil, fmt.Errorf("the ledger of %s: %w", id, err)
		}
	}
	return notes, nil
}

func readNotes(name string) ([]Note, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return parseNotes(file)
}

func parseNotes(from io.Reader) ([]Note, error) {
	var notes []Note
	lines := bufio.NewScanner(from)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) != 5 {
			return nil, fmt.Errorf("%q is no note", lines.Text())
		}
		note := Note{Node: words[0], Word: words[3]}
		for i, number := range []*int{&note.Index, &note.Attempt} {
			var err error
			if *number, err = strconv.Atoi(words[1+i]); err != nil {
				return nil, fmt.Errorf("%q has no index or no attempt", lines.Text())
			}
		}
		at, err := strconv.ParseFloat(words[4], 64)
		if err != nil {
			return nil, fmt.Errorf("%q has no time", lines.Text())
		}
		second, fraction := math.Modf(at)
		note.At = time.Unix(int64(second), int64(fraction*1e9))
		notes = append(notes, note)
	}
	return notes, lines.Err()
}
