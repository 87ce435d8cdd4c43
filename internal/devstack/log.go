package devstack

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/rs/zerolog"
)

// maxLogLine bounds what is held of a line that does not end.
const maxLogLine = 64 << 10

// logWriter keeps a process's log in a file, and tells a person of warnings, errors, and whatever is
// no log record, such as a panic. It may be used concurrently.
type logWriter struct {
	file io.Writer
	tell func(line string)

	mu   sync.Mutex
	rest []byte
}

func openLog(name string, tell func(line string)) (*os.File, *logWriter, error) {
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("opening a log: %w", err)
	}
	return file, &logWriter{file: file, tell: tell}, nil
}

// Write never fails for what a person is told, only for the file.
func (w *logWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, err := w.file.Write(p)
	w.rest = append(w.rest, p[:n]...)
	for {
		line, after, found := bytes.Cut(w.rest, []byte("\n"))
		if !found {
			break
		}
		if text := notable(line); text != "" {
			w.tell(text)
		}
		w.rest = after
	}
	if len(w.rest) > maxLogLine {
		w.rest = nil
	}
	return n, err //nolint:wrapcheck // an io.Writer passes on what its file says
}

// notable is what a person should read of a log line, or "".
func notable(line []byte) string {
	var record map[string]any
	if err := json.Unmarshal(line, &record); err != nil {
		return string(bytes.TrimSpace(line))
	}
	name, _ := record[zerolog.LevelFieldName].(string)
	level, err := zerolog.ParseLevel(name)
	if err != nil || level < zerolog.WarnLevel {
		return ""
	}
	message, _ := record[zerolog.MessageFieldName].(string)
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", name, message)
	for _, key := range slices.Sorted(maps.Keys(record)) {
		switch key {
		case zerolog.LevelFieldName, zerolog.MessageFieldName, "time":
		default:
			fmt.Fprintf(&b, " %s=%v", key, record[key])
		}
	}
	return b.String()
}
