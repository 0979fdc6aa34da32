package guesttest

import (
	"encoding/json"
	"io"
	"time"
)

// Counters are the part of a heartbeat that changes.
type Counters struct {
	Seq         uint64    `json:"heartbeat_seq"`
	ActivitySeq uint64    `json:"activity_seq"`
	Timestamp   time.Time `json:"timestamp"`
	LastActive  time.Time `json:"last_activity"`
	ExecCount   int       `json:"active_exec_sessions"`
}

func (a *Agent) counters() Counters {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	return Counters{ActivitySeq: a.activity, ExecCount: len(a.running), Timestamp: now, LastActive: now}
}

// Beat writes a heartbeat at once and then at every interval, until w fails.
func (a *Agent) Beat(w io.Writer, every time.Duration) {
	out := json.NewEncoder(w)
	for seq := uint64(1); ; seq++ {
		a.still.wait()
		c := a.counters()
		c.Seq = seq
		if out.Encode(c) != nil {
			return
		}
		time.Sleep(every)
	}
}
