package runtime

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// told is one heartbeat of the guest: the official one, and what is left out of the file.
type told struct {
	beat
	Upper *upperSpace `json:"gomsb_upper"` // nil: the guest does not say
}

// upperSpace is how much of the writable layer is used and free, as the guest has it.
type upperSpace struct {
	Used uint64 `json:"used_bytes"`
	Free uint64 `json:"free_bytes"`
}

// beat is one heartbeat of the guest, in the official key order.
type beat struct {
	Seq         uint64 `json:"heartbeat_seq"`
	ActivitySeq uint64 `json:"activity_seq"`
	Timestamp   stamp  `json:"timestamp"`
	LastActive  stamp  `json:"last_activity"`
	ExecCount   uint32 `json:"active_exec_sessions"`
	FSCount     uint32 `json:"active_fs_streams"`
	TCPCount    uint32 `json:"active_tcp_streams"`
	Counters    struct {
		HostMessages    uint64 `json:"host_messages"`
		GuestMessages   uint64 `json:"guest_messages"`
		ExecOutputBytes uint64 `json:"exec_output_bytes"`
		FSBytes         uint64 `json:"fs_bytes"`
		TCPBytes        uint64 `json:"tcp_bytes"`
	} `json:"activity_counters"`
}

// stamp is a time that is written as the official programs write it: RFC 3339 in UTC, with
// as many groups of three digits of a second as it takes.
type stamp struct{ time.Time }

// MarshalJSON writes the time.
func (s stamp) MarshalJSON() ([]byte, error) {
	layout := "2006-01-02T15:04:05"
	switch n := s.Nanosecond(); {
	case n == 0:
	case n%1e6 == 0:
		layout += ".000"
	case n%1e3 == 0:
		layout += ".000000"
	default:
		layout += ".000000000"
	}
	return s.UTC().AppendFormat(nil, `"`+layout+`Z"`), nil
}

// maxBeat bounds one line of the stream, bytes.
const maxBeat = 4096

// writeEvery is how often heartbeat.json is written at most: the guest decides how often
// it beats, but not how much the host writes.
const writeEvery = 500 * time.Millisecond

const (
	heartbeatName = "heartbeat.json"
	heartbeatTemp = "heartbeat.tmp"
)

// pulse keeps what the guest's heartbeats say.
type pulse struct {
	dir     string
	now     func() time.Time
	heard   func()    // is called for each heartbeat; nil: nothing
	written time.Time // when heartbeat.json was; used by follow only

	mu      sync.Mutex
	last    beat        // protected by mu
	known   bool        // there was one; protected by mu
	changed time.Time   // when activity_seq was seen to change; protected by mu
	space   *upperSpace // of the last one; protected by mu
	held    time.Time   // since when the guest is paused, zero while it runs; protected by mu
}

// clearHeartbeat removes what an earlier run left in dir, whatever its guest put there
// instead.
func clearHeartbeat(dir string) error {
	return errors.Join(os.RemoveAll(filepath.Join(dir, heartbeatName)), os.RemoveAll(filepath.Join(dir, heartbeatTemp)))
}

// follow reads heartbeats from r until its end. A line that is no heartbeat ends it too.
// A file that cannot be written does not: its first error is returned in the end.
func (p *pulse) follow(r io.Reader) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, maxBeat), maxBeat)
	var failed error
	for lines.Scan() {
		var b told
		if err := json.Unmarshal(lines.Bytes(), &b); err != nil {
			return errors.Join(fmt.Errorf("heartbeat: %w", err), failed)
		}
		if p.heard != nil {
			p.heard()
		}
		p.note(b.beat)
		p.noteUpper(b.Upper)
		if err := p.save(b.beat); err != nil && failed == nil {
			failed = fmt.Errorf("heartbeat: %w", err)
		}
	}
	return errors.Join(lines.Err(), failed)
}

// note remembers what b says.
func (p *pulse) note(b beat) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.known || b.ActivitySeq != p.last.ActivitySeq {
		p.changed = p.now()
	}
	p.last, p.known = b, true
}

func (p *pulse) noteUpper(u *upperSpace) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.space = u
}

// upper is what the last heartbeat said of the writable layer; nil if it said nothing.
func (p *pulse) upper() *upperSpace {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.space
}

// save writes b to heartbeat.json, unless the last one is still fresh. What is written is
// our own encoding, not the guest's bytes, to a new file: the guest may share the folder
// one day, and put a link into it.
func (p *pulse) save(b beat) error {
	now := p.now()
	if now.Sub(p.written) < writeEvery {
		return nil
	}
	p.written = now
	text, err := json.Marshal(b)
	if err != nil {
		return err
	}
	temp := filepath.Join(p.dir, heartbeatTemp)
	if err := removeIfThere(temp); err != nil {
		return err
	}
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(temp, filepath.Join(p.dir, heartbeatName))
}

// idle is how long no command has run and nothing has happened, pauses not counted; 0
// while the guest has not reported or something runs. Only the host's clock counts.
func (p *pulse) idle() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.known || p.last.ExecCount > 0 {
		return 0
	}
	now := p.now()
	if !p.held.IsZero() {
		now = p.held
	}
	return max(0, now.Sub(p.changed))
}

// hold notes that the guest is paused.
func (p *pulse) hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = p.now()
}

// release notes that it runs again.
func (p *pulse) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.changed = p.changed.Add(p.now().Sub(p.held))
	p.held = time.Time{}
}
