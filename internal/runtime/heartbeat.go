package runtime

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// beat is one heartbeat of the guest, in the official key order.
type beat struct {
	Seq         uint64    `json:"heartbeat_seq"`
	ActivitySeq uint64    `json:"activity_seq"`
	Timestamp   time.Time `json:"timestamp"`
	LastActive  time.Time `json:"last_activity"`
	ExecCount   uint32    `json:"active_exec_sessions"`
	FSCount     uint32    `json:"active_fs_streams"`
	TCPCount    uint32    `json:"active_tcp_streams"`
	Counters    struct {
		HostMessages    uint64 `json:"host_messages"`
		GuestMessages   uint64 `json:"guest_messages"`
		ExecOutputBytes uint64 `json:"exec_output_bytes"`
		FSBytes         uint64 `json:"fs_bytes"`
		TCPBytes        uint64 `json:"tcp_bytes"`
	} `json:"activity_counters"`
}

// maxBeat bounds one line of the stream, bytes.
const maxBeat = 4096

const (
	heartbeatName = "heartbeat.json"
	heartbeatTemp = "heartbeat.tmp"
)

// pulse keeps what the guest's heartbeats say.
type pulse struct {
	dir string
	now func() time.Time

	mu      sync.Mutex
	last    beat      // protected by mu
	known   bool      // there was one; protected by mu
	changed time.Time // when activity_seq was seen to change; protected by mu
}

// clearHeartbeat removes what an earlier run left in dir.
func clearHeartbeat(dir string) error {
	var errs []error
	for _, name := range []string{heartbeatName, heartbeatTemp} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// follow reads heartbeats from r until its end. A line that is no heartbeat ends it too.
func (p *pulse) follow(r io.Reader) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, maxBeat), maxBeat)
	for lines.Scan() {
		var b beat
		if err := json.Unmarshal(lines.Bytes(), &b); err != nil {
			return fmt.Errorf("heartbeat: %w", err)
		}
		if err := p.record(b); err != nil {
			return fmt.Errorf("heartbeat: %w", err)
		}
	}
	return lines.Err()
}

// record takes note of b and writes it to heartbeat.json. What is written is our own
// encoding, not the guest's bytes.
func (p *pulse) record(b beat) error {
	p.mu.Lock()
	if !p.known || b.ActivitySeq != p.last.ActivitySeq {
		p.changed = p.now()
	}
	p.last, p.known = b, true
	p.mu.Unlock()
	text, err := json.Marshal(b)
	if err != nil {
		return err
	}
	temp := filepath.Join(p.dir, heartbeatTemp)
	if err := os.WriteFile(temp, text, 0o644); err != nil {
		return err
	}
	return os.Rename(temp, filepath.Join(p.dir, heartbeatName))
}

// idle is how long no command has run and nothing has happened; 0 while the guest has
// not reported or something runs. Only the host's clock counts.
func (p *pulse) idle() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.known || p.last.ExecCount > 0 {
		return 0
	}
	return p.now().Sub(p.changed)
}
