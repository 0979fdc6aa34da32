package microsandbox

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/gomsb/gomsb/internal/launch"
)

// LogSource is where a log entry comes from.
type LogSource string

// Log sources. Output is the merged stream of a command with a terminal; System is the
// runtime's and the guest kernel's own log.
const (
	LogSourceStdout LogSource = "stdout"
	LogSourceStderr LogSource = "stderr"
	LogSourceOutput LogSource = "output"
	LogSourceSystem LogSource = "system"
)

// LogOptions choose log entries. The zero value is everything that commands printed.
type LogOptions struct {
	Tail         uint64      // the last so many, 0 = all
	Since, Until time.Time   // from Since on, and before Until
	Sources      []LogSource // default stdout, stderr and output
}

// LogStreamOptions choose what a LogStream delivers.
type LogStreamOptions struct {
	Sources    []LogSource
	Since      time.Time
	FromCursor string
	Until      time.Time // exclusive
	Follow     bool      // keep waiting for new entries until Until, Close or the sandbox is removed
}

// LogEntry is one entry: one read of a command's output, or one line of a system log.
type LogEntry struct {
	Source    LogSource
	SessionID *uint64 // which command, counted from 1 for each start; nil for system
	Timestamp time.Time
	Data      []byte
	// Cursor resumes a LogStream after this entry; empty for entries of system logs.
	Cursor string
}

// Text is the data as text.
func (e LogEntry) Text() string { return string(e.Data) }

// maxLogLine bounds one line of exec.log, bytes: a frame of 4 MiB, all of it escaped.
const maxLogLine = 32 << 20

type execLogLine struct {
	Time    time.Time `json:"t"`
	Source  LogSource `json:"s"`
	Data    string    `json:"d"`
	Session *uint64   `json:"id"`
	Enc     string    `json:"e"`
}

func parseExecLine(line []byte) (LogEntry, bool) {
	var l execLogLine
	if json.Unmarshal(line, &l) != nil || l.Source == "" {
		return LogEntry{}, false
	}
	data := []byte(l.Data)
	if l.Enc == "b64" {
		var err error
		if data, err = base64.StdEncoding.DecodeString(l.Data); err != nil {
			return LogEntry{}, false
		}
	}
	return LogEntry{Source: l.Source, SessionID: l.Session, Timestamp: l.Time, Data: data}, true
}

// parseTextLine reads a line of a system log. One that begins with an RFC 3339 time has
// that time, others none.
func parseTextLine(line []byte) LogEntry {
	e := LogEntry{Source: LogSourceSystem, Data: bytes.Clone(line)}
	word, _, _ := bytes.Cut(line, []byte(" "))
	e.Timestamp, _ = time.Parse(time.RFC3339Nano, string(word)) // the zero time if it is none
	return e
}

func wantedSources(s []LogSource) []LogSource {
	if len(s) == 0 {
		return []LogSource{LogSourceStdout, LogSourceStderr, LogSourceOutput}
	}
	return s
}

// readLogs returns the entries of a sandbox's log folder that o asks for.
func readLogs(ctx context.Context, dir string, o LogOptions) ([]LogEntry, error) {
	m := newLogMerge(dir, wantedSources(o.Sources), true)
	defer m.close()
	var entries []LogEntry
	for {
		if ctx.Err() != nil {
			return nil, cancelled(ctx)
		}
		e, err := m.next()
		if err != nil {
			return nil, wrap(ErrIO, err)
		}
		if e == nil {
			break
		}
		if (o.Since.IsZero() || !e.Timestamp.Before(o.Since)) && (o.Until.IsZero() || e.Timestamp.Before(o.Until)) {
			entries = append(entries, *e)
		}
	}
	if o.Tail > 0 && uint64(len(entries)) > o.Tail {
		entries = entries[uint64(len(entries))-o.Tail:]
	}
	return entries, nil
}

// cursor names a place in one file of the log, whatever the file is called by then.
func cursor(file string, off int64) string { return file + "." + strconv.FormatInt(off, 16) }

func parseCursor(s string) (file string, off int64, err error) {
	i := strings.LastIndexByte(s, '.')
	if i > 0 {
		if off, err = strconv.ParseInt(s[i+1:], 16, 64); err == nil && off >= 0 {
			return s[:i], off, nil
		}
	}
	return "", 0, fail(ErrInvalidArgument, "invalid cursor: %s", s)
}

// BootFailure is what the runtime left about a start that failed.
type BootFailure struct {
	Time      time.Time
	Stage     string // mount, build_vm, config, network, image or other
	Errno     *int   // host error number, nil if none was involved
	Message   string
	KernelLog []string // the last lines of the guest's console
}

// readBootFailure returns nil if the last start did not fail, or left nothing to read.
func readBootFailure(dir string) *BootFailure {
	e, err := launch.ReadBootError(dir)
	if err != nil || e.Message == "" {
		return nil
	}
	return &BootFailure{Time: e.Time, Stage: string(e.Stage), Errno: e.Errno, Message: e.Message, KernelLog: e.KernelLog}
}
