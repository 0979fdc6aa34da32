//go:build linux

package serve

import (
	"github.com/gomsb/gomsb/guestagent/agent/heap"
	"github.com/gomsb/gomsb/guestagent/proto"
)

// trim gives the memory back that only the garbage collector knows to be free. Only the
// relay itself may ask for it, and one answer does for all that ask meanwhile: it takes the
// time of a few commands.
func (s *Server) trim(m proto.Message) {
	if m.ID != 0 || !s.trimming.CompareAndSwap(false, true) {
		return
	}
	go func() {
		heap.Trim()
		s.trimming.Store(false)
		_ = s.send(0, proto.TypeTrimmed, proto.Empty{})
	}()
}
