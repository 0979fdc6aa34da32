//go:build linux

package serve

import (
	"io"
	"strconv"
	"time"
)

const (
	// beatInterval is how often the host hears of the agent.
	beatInterval = time.Second
	// maxBeatPause is how long to wait at most before the next try to reach the host.
	maxBeatPause = time.Minute
	// timeFormat is RFC 3339, UTC, nanoseconds.
	timeFormat = "2006-01-02T15:04:05.000000000Z"
)

// pulse writes heartbeats. It is used by one goroutine.
type pulse struct {
	a     *activity
	upper func() (used, free uint64, ok bool) // see Config

	seq        uint64 // heartbeats so far
	lastSeq    uint64 // activity seen by the last one
	lastActive time.Time
	buf        []byte
	failures   int // to reach the host, in a row
}

// beat writes heartbeats until stop is closed. A host that does not want them is asked
// again now and then.
func (s *Server) beat(stop <-chan struct{}) {
	p := pulse{a: s.activity, upper: s.cfg.Upper, lastActive: time.Now()}
	var w io.WriteCloser
	defer func() {
		if w != nil {
			_ = w.Close()
		}
	}()
	timer := time.NewTimer(beatInterval)
	defer timer.Stop()
	for {
		select {
		case <-stop:
			return
		case <-timer.C:
		}
		if s.cfg.Beat != nil {
			s.cfg.Beat()
		}
		var err error
		if w == nil {
			w, err = s.cfg.Heartbeat()
		}
		if err == nil {
			if _, err = w.Write(p.next(time.Now())); err != nil {
				_ = w.Close()
			}
		}
		timer.Reset(p.pause(err))
		if err != nil {
			w = nil
		}
	}
}

// pause is the time until the next heartbeat.
func (p *pulse) pause(err error) time.Duration {
	if err == nil {
		p.failures = 0
		return beatInterval
	}
	p.failures++
	return min(beatInterval<<min(p.failures, 10), maxBeatPause)
}

// next returns the next heartbeat, one line of JSON in the official key order, and what the
// official agent tells of the writable layer by a device.
func (p *pulse) next(now time.Time) []byte {
	p.seq++
	a := p.a
	seq := a.seq.Load()
	if seq != p.lastSeq {
		p.lastSeq, p.lastActive = seq, now
	}
	b := p.buf[:0]
	number := func(key string, n uint64) {
		b = append(b, key...)
		b = strconv.AppendUint(b, n, 10)
	}
	number(`{"heartbeat_seq":`, p.seq)
	number(`,"activity_seq":`, seq)
	b = append(b, `,"timestamp":"`...)
	b = now.UTC().AppendFormat(b, timeFormat)
	b = append(b, `","last_activity":"`...)
	b = p.lastActive.UTC().AppendFormat(b, timeFormat)
	number(`","active_exec_sessions":`, uint64(a.execs.Load()))
	number(`,"active_fs_streams":`, uint64(a.files.Load()))
	number(`,"active_tcp_streams":`, uint64(a.tcps.Load()))
	number(`,"activity_counters":{"host_messages":`, a.fromHost.Load())
	number(`,"guest_messages":`, a.fromGuest.Load())
	number(`,"exec_output_bytes":`, a.execOutput.Load())
	number(`,"fs_bytes":`, a.fileBytes.Load())
	number(`,"tcp_bytes":`, a.tcpBytes.Load())
	b = append(b, '}')
	if p.upper != nil {
		if used, free, ok := p.upper(); ok {
			number(`,"gomsb_upper":{"used_bytes":`, used)
			number(`,"free_bytes":`, free)
			b = append(b, '}')
		}
	}
	b = append(b, "}\n"...)
	p.buf = b
	return b
}
