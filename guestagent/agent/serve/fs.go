//go:build linux

package serve

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/gomsb/gomsb/guestagent/proto"
)

const (
	// maxFileOps bounds the operations under way: each may hang in the kernel, on a
	// FIFO or a dead share, and holds a thread meanwhile.
	maxFileOps = 256
	// readChunk is how much of a file goes into one message, bytes: with its header it
	// stays below the sizes that buffers are made for along the way.
	readChunk = 120 << 10
)

var readBuffers = sync.Pool{New: func() any { return new([readChunk]byte) }}

// download is a file being read for the host.
type download struct {
	stop atomic.Bool
	gate *gate
}

// abort ends it without a word.
func (d *download) abort() {
	d.stop.Store(true)
	d.gate.open()
}

// errAborted ends a download whose client is gone.
var errAborted = errors.New("the client is gone")

// upload is a file being written by the host.
type upload struct{ in *inbox }

// fsRequest carries a request out in a goroutine of its own: no path, share or FIFO can
// stop the loop. A stream that had the id before ends without a word.
func (s *Server) fsRequest(m proto.Message) {
	gate := s.newGate(m.ID)
	var req proto.FSRequest
	if !s.decode(m, &req) {
		return
	}
	s.mu.Lock()
	full := s.busy >= maxFileOps
	if !full {
		s.busy++
	}
	s.mu.Unlock()
	if full {
		s.respond(m.ID, nil, errors.New("too many file operations at once"))
		return
	}
	id := m.ID
	switch op := req.Op.(type) {
	case proto.FSRead:
		d := &download{gate: gate}
		s.mu.Lock()
		if old := s.reads[id]; old != nil {
			old.abort()
		}
		s.reads[id] = d
		s.mu.Unlock()
		s.activity.files.Add(1)
		go s.read(id, op, d)
	case proto.FSWrite:
		u := &upload{in: s.newInbox(id, gate)}
		s.mu.Lock()
		if old := s.uploads[id]; old != nil {
			old.in.close()
		}
		s.uploads[id] = u
		s.mu.Unlock()
		s.activity.files.Add(1)
		go s.write(id, op, u)
	default:
		go func() {
			res, err := s.files.Do(id, op)
			s.done()
			s.respond(id, res, err)
		}()
	}
}

func (s *Server) done() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy--
}

// respond sends the answer. One that does not fit a message becomes an error.
func (s *Server) respond(id uint32, res *proto.FSResult, err error) {
	p := proto.FSResponse{OK: err == nil, Data: res}
	if err != nil {
		text := err.Error()
		p.Error, p.Data = &text, nil
	}
	err = s.send(id, proto.TypeFSResponse, p)
	if errors.Is(err, proto.ErrFrame) || errors.Is(err, proto.ErrPayload) {
		text := "the response does not fit one message"
		_ = s.send(id, proto.TypeFSResponse, proto.FSResponse{Error: &text})
	}
}

func (s *Server) read(id uint32, op proto.FSRead, d *download) {
	buf := readBuffers.Get().(*[readChunk]byte)
	err := s.files.Read(id, op, buf[:], func(p []byte) error {
		d.gate.pass(proto.DataMessageSize(proto.TypeFSData, len(p)))
		if d.stop.Load() {
			return errAborted
		}
		s.activity.fileBytes.Add(uint64(len(p)))
		return s.data(id, proto.TypeFSData, p)
	})
	readBuffers.Put(buf)
	s.mu.Lock()
	if s.reads[id] == d {
		delete(s.reads, id)
	}
	s.busy--
	s.mu.Unlock()
	s.activity.files.Add(-1)
	if !d.stop.Load() {
		s.respond(id, nil, err)
	}
}

func (s *Server) write(id uint32, op proto.FSWrite, u *upload) {
	complete, err := s.receive(id, op, u)
	u.in.close()
	s.mu.Lock()
	if s.uploads[id] == u {
		delete(s.uploads, id)
	}
	s.busy--
	s.mu.Unlock()
	s.activity.files.Add(-1)
	if complete || err != nil {
		s.respond(id, nil, err)
	}
}

// receive writes what arrives. complete is false if the client went away before the end.
func (s *Server) receive(id uint32, op proto.FSWrite, u *upload) (complete bool, err error) {
	w, err := s.files.Write(id, op)
	if err != nil {
		return false, err
	}
	for {
		p, ok := u.in.take()
		switch {
		case !ok:
			w.Abort()
			return false, nil
		case p == nil:
			return true, w.End()
		}
		if err := w.Put(p); err != nil {
			w.Abort()
			return false, err
		}
		s.activity.fileBytes.Add(uint64(len(p)))
	}
}

func (s *Server) fsData(m proto.Message) {
	p, ok := s.payloadData(m)
	if !ok {
		return
	}
	s.mu.Lock()
	u := s.uploads[m.ID]
	s.mu.Unlock()
	switch {
	case u == nil:
		s.respond(m.ID, nil, fmt.Errorf("unknown write session: %d", m.ID))
	case len(p) == 0:
		u.in.end()
	default:
		if err := u.in.put(p); err != nil {
			s.respond(m.ID, nil, fmt.Errorf("write: %w", err))
		}
	}
}
