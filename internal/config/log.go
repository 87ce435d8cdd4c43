package config

import (
	"io"
	"os"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/term"
)

// logTime is RFC 3339 in UTC with microseconds, as times are everywhere else.
const logTime = "2006-01-02T15:04:05.000000Z07:00"

// NewLogger returns the logger of a process: one JSON line per record with level, message
// and time, or a form for people when out is a terminal.
func NewLogger(out *os.File, level LogLevel) zerolog.Logger {
	if term.IsTerminal(int(out.Fd())) {
		return newLogger(zerolog.NewConsoleWriter(func(w *zerolog.ConsoleWriter) {
			w.Out = out
			w.TimeFormat = time.TimeOnly
			w.TimeLocation = time.Local
		}), level)
	}
	return newLogger(out, level)
}

// NewLoggerTo returns the logger of a process whose log goes into a file: JSON lines.
func NewLoggerTo(out io.Writer, level LogLevel) zerolog.Logger { return newLogger(out, level) }

func newLogger(out io.Writer, level LogLevel) zerolog.Logger {
	// Not Context.Timestamp: its format is a global variable.
	stamp := zerolog.HookFunc(func(e *zerolog.Event, _ zerolog.Level, _ string) {
		e.Str("time", time.Now().UTC().Format(logTime))
	})
	return zerolog.New(out).Level(level.Level).Hook(stamp)
}
