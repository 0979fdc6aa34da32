//go:build linux

package serve

import (
	"sync/atomic"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// activity counts what the host looks at to tell an idle guest.
type activity struct {
	seq        atomic.Uint64 // messages that count, of both sides
	fromHost   atomic.Uint64
	fromGuest  atomic.Uint64
	execOutput atomic.Uint64 // bytes
	fileBytes  atomic.Uint64
	tcpBytes   atomic.Uint64

	execs, files, tcps atomic.Int32 // open now
}

// heard counts a message of the host. Housekeeping is no activity.
func (a *activity) heard(t proto.Type) {
	switch t {
	case proto.TypeClockSync, proto.TypePing, proto.TypeTouch, proto.TypeFlow, proto.TypeTrim:
		return
	}
	a.touch()
}

// touch counts one message of the host.
func (a *activity) touch() uint64 {
	a.fromHost.Add(1)
	return a.seq.Add(1)
}

// said counts a message to the host. Answers to housekeeping are no activity.
func (a *activity) said(t proto.Type) {
	switch t {
	case proto.TypePong, proto.TypeTouched, proto.TypeTrimmed, proto.TypeError:
		return
	}
	a.fromGuest.Add(1)
	a.seq.Add(1)
}
