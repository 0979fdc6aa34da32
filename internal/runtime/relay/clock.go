package relay

import (
	"time"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// How often the guest hears the time, and how the host notices that it slept.
const (
	clockInterval = 60 * time.Second
	clockPoll     = 2 * time.Second
	clockJump     = 6 * time.Second // between two polls
)

// syncClock tells the guest the host's wall clock: at once, every minute, when the host's
// clock jumped (it was suspended, or set), and when the guest goes on after a pause.
func (r *Relay) syncClock(stop <-chan struct{}) {
	tick := time.NewTicker(clockPoll)
	defer tick.Stop()
	sent := r.sendClock()
	last := sent.Round(0) // without its monotonic part: wall clock only
	for {
		select {
		case <-stop:
			return
		case <-r.done:
			return
		case <-r.resumed:
			sent = r.sendClock()
		case now := <-tick.C:
			gap := now.Round(0).Sub(last)
			last = now.Round(0)
			if r.paused.Load() == nil && (now.Sub(sent) >= clockInterval || gap >= clockJump || gap < 0) {
				sent = r.sendClock()
			}
		}
	}
}

func (r *Relay) sendClock() time.Time {
	now := time.Now()
	if err := r.Send(0, proto.TypeClockSync, proto.ClockSync{UnixTimeNanos: uint64(now.UnixNano())}); err != nil {
		r.log.Debug("cannot send the time to the guest", "err", err)
	}
	return now
}
