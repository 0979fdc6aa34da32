package microsandbox

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"sync"
	"time"
)

// LogStreamHandle delivers log entries one by one. It belongs to one consumer.
type LogStreamHandle struct {
	dir string
	opt LogStreamOptions
	log *logMerge

	mu         sync.Mutex // held by Recv: log
	closeOnce  sync.Once
	closed     chan struct{}
	finishOnce sync.Once
	finishing  chan struct{} // closed by Finish
}

// logPoll is how often a following stream looks for new entries.
const logPoll = 50 * time.Millisecond

func openLogStream(dir string, o LogStreamOptions) (*LogStreamHandle, error) {
	if !o.Since.IsZero() && o.FromCursor != "" {
		return nil, fail(ErrInvalidArgument, "since and cursor cannot be used together")
	}
	h := &LogStreamHandle{opt: o, dir: dir, log: newLogMerge(dir, wantedSources(o.Sources), false), closed: make(chan struct{}), finishing: make(chan struct{})}
	if o.FromCursor == "" {
		return h, nil
	}
	id, off, err := parseCursor(o.FromCursor)
	if err != nil {
		return nil, err
	}
	found, err := h.log.resume(id, off)
	if err != nil {
		_ = h.Close()
		return nil, wrap(ErrIO, err)
	}
	if !found {
		_ = h.Close()
		return nil, fail(ErrInvalidArgument, "invalid cursor: %s", o.FromCursor)
	}
	return h, nil
}

// Recv returns the next entry; nil without an error at the end of the stream.
func (h *LogStreamHandle) Recv(ctx context.Context) (*LogEntry, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		select {
		case <-ctx.Done():
			return nil, cancelled(ctx)
		case <-h.closed:
			return nil, nil
		default:
		}
		last := !h.opt.Follow || h.finished() // asked before reading: what came until then is delivered
		e, err := h.log.next()
		if err != nil {
			return nil, wrap(ErrIO, err)
		}
		if e != nil {
			if !h.opt.Until.IsZero() && !e.Timestamp.Before(h.opt.Until) {
				return nil, nil
			}
			if e.Timestamp.Before(h.opt.Since) {
				continue
			}
			return e, nil
		}
		if last || !h.opt.Until.IsZero() && time.Now().After(h.opt.Until) {
			return nil, nil
		}
		if _, err := os.Stat(h.dir); errors.Is(err, fs.ErrNotExist) {
			return nil, nil // the sandbox was removed
		}
		select {
		case <-ctx.Done():
		case <-h.closed:
		case <-h.finishing:
		case <-time.After(logPoll):
		}
	}
}

// Finish ends a following stream after what there is: Recv delivers that and then the end
// of the stream. It may be called while Recv waits, and again.
func (h *LogStreamHandle) Finish() { h.finishOnce.Do(func() { close(h.finishing) }) }

func (h *LogStreamHandle) finished() bool {
	select {
	case <-h.finishing:
		return true
	default:
		return false
	}
}

// Close ends the stream. It may be called while Recv waits, and again.
func (h *LogStreamHandle) Close() error {
	h.closeOnce.Do(func() {
		close(h.closed)
		h.mu.Lock()
		defer h.mu.Unlock()
		h.log.close()
	})
	return nil
}
