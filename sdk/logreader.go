package microsandbox

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// logReader reads one log through its rotations, oldest first. The file that it is at
// stays open until the next one is, so that its identity cannot be given to another.
type logReader struct {
	dir   string
	names []string // oldest first
	text  bool     // a system log: lines of text, not of JSON
	last  bool     // nothing more will come: a line without its end is one too

	file *os.File // nil before the first entry
	id   string
	off  int64
	r    *bufio.Reader
	at   time.Time // of the line before, in a system log
}

// The files of each log, oldest first.
var (
	execLogNames    = []string{"exec.log.4", "exec.log.3", "exec.log.2", "exec.log.1", "exec.log"}
	runtimeLogNames = []string{"runtime.log.4", "runtime.log.3", "runtime.log.2", "runtime.log.1", "runtime.log"}
	kernelLogNames  = []string{"kernel.log"} // begins afresh at each start
)

// resume goes to a place in one of the files and reports whether there is such a place.
func (l *logReader) resume(id string, off int64) (bool, error) {
	for _, name := range l.names {
		f, have, err := l.open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return false, err
		}
		st, err := f.Stat()
		if err == nil && have == id && off <= st.Size() {
			l.use(f, id)
			return true, l.seek(off)
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return false, err
		}
	}
	return false, nil
}

// read returns the next entry there is, nil if there is none yet.
func (l *logReader) read() (*LogEntry, error) {
	for {
		if l.file == nil {
			if moved, err := l.next(); err != nil || !moved {
				return nil, err
			}
		}
		line, err := l.line()
		if err == nil {
			l.off += int64(len(line))
			if e := l.parse(line); e != nil {
				return e, nil
			}
			continue
		}
		if !errors.Is(err, io.EOF) {
			return nil, err
		}
		if afresh, err := l.rewind(); err != nil {
			return nil, err
		} else if afresh {
			continue
		}
		successor, err := l.next()
		if err != nil || !successor {
			return nil, err
		}
	}
}

// line returns the next complete line with its end, or io.EOF. A long line of a system
// log comes in pieces: what a guest's console prints need not have lines.
func (l *logReader) line() ([]byte, error) {
	if !l.text {
		return readLine(l.r)
	}
	line, err := l.r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) || l.last && errors.Is(err, io.EOF) && len(line) > 0 {
		err = nil
	}
	return line, err
}

// readLine returns the next complete line of exec.log with its end, or io.EOF.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if err == nil && line == nil {
			return part, nil
		}
		line = append(line, part...)
		if err == nil {
			return line, nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
		if len(line) > maxLogLine {
			return nil, fmt.Errorf("a log line is longer than %d bytes", maxLogLine)
		}
	}
}

// parse returns nil for a line that is no entry.
func (l *logReader) parse(line []byte) *LogEntry {
	if !l.text {
		e, ok := parseExecLine(line)
		if !ok {
			return nil
		}
		e.Cursor = cursor(l.id, l.off)
		return &e
	}
	e := parseTextLine(line)
	if e.Timestamp.IsZero() {
		e.Timestamp = l.at
	}
	l.at = e.Timestamp
	return &e
}

// rewind goes back to the end of the last line: the rest of the next one may follow. A
// file that was truncated is read from its start; afresh tells.
func (l *logReader) rewind() (afresh bool, err error) {
	st, err := l.file.Stat()
	if err != nil {
		return false, err
	}
	if afresh = st.Size() < l.off; afresh {
		l.off = 0
	}
	if l.text && st.ModTime().After(l.at) {
		l.at = st.ModTime()
	}
	return afresh, l.seek(l.off)
}

// next opens the file after the one that is open, if there is any: the next newer one, or
// the oldest there is if the open file was rotated away. Nothing is written to a file
// once there is a newer one, so what was read to its end before is read wholly only if
// there was nothing new since: next then stays where it is.
func (l *logReader) next() (bool, error) {
	var newer *os.File
	var newerID string
	for i := len(l.names) - 1; i >= 0; i-- { // from the newest back to ours
		f, id, err := l.open(l.names[i])
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && l.file != nil && id == l.id {
			err = f.Close()
			if err != nil || newer == nil {
				return false, err
			}
			break
		}
		if newer != nil {
			err = errors.Join(err, newer.Close())
		}
		if err != nil {
			return false, err
		}
		newer, newerID = f, id
	}
	if newer == nil {
		return false, nil
	}
	if l.file != nil {
		st, err := l.file.Stat()
		if err != nil || st.Size() > l.off && l.pending() {
			return true, errors.Join(err, newer.Close()) // read the rest first
		}
		if err := l.file.Close(); err != nil {
			return false, errors.Join(err, newer.Close())
		}
	}
	l.use(newer, newerID)
	return true, nil
}

// pending reports that a whole line waits behind the place where the reader is.
func (l *logReader) pending() bool {
	_, err := readLine(bufio.NewReader(io.NewSectionReader(l.file, l.off, 1<<62)))
	return err == nil
}

func (l *logReader) open(name string) (*os.File, string, error) {
	f, err := os.Open(filepath.Join(l.dir, name))
	if err != nil {
		return nil, "", err
	}
	id, err := fileID(f)
	if err != nil {
		return nil, "", errors.Join(err, f.Close())
	}
	return f, id, nil
}

func (l *logReader) use(f *os.File, id string) {
	l.file, l.id, l.off, l.r = f, id, 0, bufio.NewReaderSize(f, 64<<10)
	if st, err := f.Stat(); err == nil && l.text {
		l.at = st.ModTime() // unless a line says otherwise
	}
}

func (l *logReader) seek(off int64) error {
	if _, err := l.file.Seek(off, io.SeekStart); err != nil {
		return err
	}
	l.off = off
	l.r.Reset(l.file)
	return nil
}

func (l *logReader) close() {
	if l.file != nil {
		_ = l.file.Close()
		l.file = nil
	}
}
