package journal

import (
	"bytes"
	"os"
	"strings"
	"sync"
)

// KernelLogSize bounds kernel.log: a guest decides how much it prints.
const KernelLogSize = 16 << 20

// tailSize is how much of the newest output is remembered for a boot error.
const tailSize = 8 << 10

// KernelLog is the guest console's output: kernel.log, started afresh at each boot, and
// the newest lines in memory. It is safe for concurrent use.
type KernelLog struct {
	mu   sync.Mutex
	file *os.File // nil after Close or when full; protected by mu
	size int64    // protected by mu
	tail []byte   // protected by mu
}

// CreateKernelLog truncates or creates the log at path.
func CreateKernelLog(path string) (*KernelLog, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return nil, err
	}
	return &KernelLog{file: f}, nil
}

// Write appends what the guest printed. It never fails: the guest must not be able to
// stop its own console by filling a disk.
func (l *KernelLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tail = append(l.tail, p[max(0, len(p)-tailSize):]...)
	if extra := len(l.tail) - tailSize; extra > 0 {
		l.tail = append(l.tail[:0], l.tail[extra:]...)
	}
	if l.file == nil {
		return len(p), nil
	}
	keep := p[:min(int64(len(p)), KernelLogSize-l.size)]
	n, err := l.file.Write(keep)
	l.size += int64(n)
	if err != nil || l.size >= KernelLogSize {
		_, _ = l.file.WriteString("\n--- the rest is not kept ---\n")
		_ = l.file.Close()
		l.file = nil
	}
	return len(p), nil
}

// Tail returns the newest whole lines, at most n, without trailing white space.
func (l *KernelLog) Tail(n int) []string {
	l.mu.Lock()
	tail := bytes.ToValidUTF8(l.tail, []byte("\uFFFD"))
	cut := len(l.tail) == tailSize
	l.mu.Unlock()
	var lines []string
	for line := range strings.SplitSeq(string(tail), "\n") {
		if line = strings.TrimRight(line, "\r \t"); line != "" {
			lines = append(lines, line)
		}
	}
	if cut && len(lines) > 1 {
		lines = lines[1:] // it has lost its beginning
	}
	return lines[max(0, len(lines)-n):]
}

// Close closes the file; the tail stays. It is idempotent.
func (l *KernelLog) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	return err
}
