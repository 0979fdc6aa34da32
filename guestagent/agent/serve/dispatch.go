//go:build linux

package serve

import (
	"bytes"
	"fmt"
	"time"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// handle carries out one frame, or hands it to its session. Only an error that ends the
// loop is returned.
func (s *Server) handle(f proto.Frame) error {
	m, err := proto.ParseMessage(f)
	if err != nil {
		s.refuse(proto.Message{ID: f.ID, Generation: proto.Generation}, proto.KindMalformedMessage, err)
		return nil
	}
	if !m.Type.Known() {
		s.refuse(m, proto.KindUnsupportedType, fmt.Errorf("unsupported message type %q", m.Type))
		return nil
	}
	if err := m.CheckFlags(); err != nil {
		s.refuse(m, proto.KindInvalidFlags, err)
		return nil
	}
	s.activity.heard(m.Type)
	switch m.Type {
	case proto.TypeShutdown:
		return ErrShutdown
	case proto.TypePing:
		return s.answer(m, proto.TypePong, proto.Empty{})
	case proto.TypeTouch:
		return s.answer(m, proto.TypeTouched, proto.Touched{ActivitySeq: s.activity.touch()})
	case proto.TypeClockSync:
		s.syncClock(m)
	case proto.TypeClientDisconnected:
		s.clientGone(m)
	case proto.TypeTrim:
		s.trim(m)
	case proto.TypeFlow:
		s.flow(m)
	case proto.TypeExecRequest:
		s.exec(m)
	case proto.TypeExecStdin:
		s.execStdin(m)
	case proto.TypeExecResize:
		s.execResize(m)
	case proto.TypeExecSignal:
		s.execSignal(m)
	case proto.TypeFSRequest:
		s.fsRequest(m)
	case proto.TypeFSData:
		s.fsData(m)
	case proto.TypeTCPConnect:
		s.tcpConnect(m)
	case proto.TypeTCPData:
		s.tcpData(m)
	case proto.TypeTCPEOF:
		s.tcpEOF(m)
	case proto.TypeTCPClose:
		s.tcpClose(m)
	}
	// The rest is known but not for a guest that serves: ignored.
	return nil
}

// answer sends the answer to a message without a payload of interest.
func (s *Server) answer(m proto.Message, t proto.Type, payload any) error {
	var p proto.Empty
	if s.decode(m, &p) {
		_ = s.send(m.ID, t, payload)
	}
	return nil
}

// payloadData returns a copy of a data message's bytes.
func (s *Server) payloadData(m proto.Message) (p []byte, ok bool) {
	p, err := proto.DecodeData(m.Payload)
	if err != nil {
		s.refuse(m, proto.KindInvalidPayload, fmt.Errorf("decode payload for %s: %w", m.Type, err))
		return nil, false
	}
	return bytes.Clone(p), true
}

// clockSlack is how far the clock may be off before it is set.
const clockSlack = 100 * time.Millisecond

func (s *Server) syncClock(m proto.Message) {
	var p proto.ClockSync
	if !s.decode(m, &p) || p.UnixTimeNanos > 1<<63-1 {
		return
	}
	host := time.Unix(0, int64(p.UnixTimeNanos))
	if time.Until(host).Abs() <= clockSlack {
		return
	}
	if err := s.cfg.SetClock(host); err != nil {
		s.cfg.Log("cannot set the clock: " + err.Error())
	}
}

func (s *Server) clientGone(m proto.Message) {
	var p proto.ClientDisconnected
	if s.decode(m, &p) && p.IDStart < p.IDEndExclusive {
		s.disconnect(proto.IDRange{Start: p.IDStart, End: p.IDEndExclusive})
	}
}

// disconnect ends what clients with these ids left behind. Commands go on, but what they
// say is for nobody: the ids may soon belong to another client.
func (s *Server) disconnect(ids proto.IDRange) {
	s.mu.Lock()
	for id, e := range s.execs {
		if ids.Contains(id) {
			e.mute()
			delete(s.execs, id)
		}
	}
	s.mu.Unlock()
	for id := range s.early {
		if ids.Contains(id) {
			delete(s.early, id)
		}
	}
	s.closeStreams(ids)
}

// closeStreams ends file operations and TCP streams, and closes file handles.
func (s *Server) closeStreams(ids proto.IDRange) {
	s.mu.Lock()
	for id, u := range s.uploads {
		if ids.Contains(id) {
			u.in.close()
		}
	}
	for id, d := range s.reads {
		if ids.Contains(id) {
			d.abort()
		}
	}
	for id, t := range s.tcps {
		if ids.Contains(id) {
			t.abort()
			delete(s.tcps, id)
			s.activity.tcps.Add(-1)
		}
	}
	s.mu.Unlock()
	s.files.Drop(ids)
}
