package journal

import (
	"strconv"
	"sync"
	"time"
	"unicode/utf8"
)

// Source says where an entry of exec.log comes from.
type Source string

// The sources.
const (
	Stdout Source = "stdout"
	Stderr Source = "stderr"
	Output Source = "output" // stdout and stderr merged by a terminal
	System Source = "system" // the runtime itself
)

// The system entries that mark the beginning and the end of a run.
const (
	Started = "--- sandbox started ---\n"
	Ended   = "--- sandbox stopped ---\n"
)

// ExecLog writes exec.log. It is safe for concurrent use.
type ExecLog struct {
	file *File
	now  func() time.Time

	mu  sync.Mutex
	buf []byte // protected by mu
}

// OpenExecLog opens the log at path for appending.
func OpenExecLog(path string) (*ExecLog, error) {
	f, err := Open(path, nil)
	if err != nil {
		return nil, err
	}
	return &ExecLog{file: f, now: time.Now}, nil
}

// timeLayout is RFC 3339 in UTC with milliseconds.
const timeLayout = "2006-01-02T15:04:05.000Z"

// Write appends one entry: data of a session, whose number counts from 1. Number 0, for
// system entries, is left out. Bytes that are no UTF-8 become U+FFFD.
func (l *ExecLog) Write(source Source, session uint64, data []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := append(l.buf[:0], `{"t":"`...)
	b = l.now().UTC().AppendFormat(b, timeLayout)
	b = append(b, `","s":"`...)
	b = append(b, source...)
	b = append(b, `","d":`...)
	b = appendString(b, data)
	if session > 0 {
		b = append(b, `,"id":`...)
		b = strconv.AppendUint(b, session, 10)
	}
	b = append(b, '}', '\n')
	if cap(b) <= keepBuffer {
		l.buf = b
	}
	_, err := l.file.Write(b)
	return err
}

// keepBuffer is the largest buffer kept between entries.
const keepBuffer = 64 << 10

// System appends an entry of the runtime's own.
func (l *ExecLog) System(text string) error { return l.Write(System, 0, []byte(text)) }

// Close closes the log.
func (l *ExecLog) Close() error { return l.file.Close() }

const hexDigits = "0123456789abcdef"

// appendString appends data as a JSON string with the fewest escapes, as the official
// programs write it; encoding/json would escape more.
func appendString(dst, data []byte) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(data); {
		c := data[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRune(data[i:])
			if r == utf8.RuneError && n == 1 {
				dst = append(dst, data[start:i]...)
				dst = append(dst, "\uFFFD"...)
				start = i + 1
			}
			i += n
			continue
		}
		i++
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, data[start:i-1]...)
		start = i
		dst = appendEscape(dst, c)
	}
	dst = append(dst, data[start:]...)
	return append(dst, '"')
}

func appendEscape(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	case '\b':
		return append(dst, '\\', 'b')
	case '\f':
		return append(dst, '\\', 'f')
	}
	return append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
}
