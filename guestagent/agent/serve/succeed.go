//go:build linux

package serve

import "io"

// Succeed returns the server of another host, on stream, in a guest that is a copy of one
// that s served. Run of s has returned. The clients of the new host know nothing of the old
// ones: commands go on unheard, and count as active until they end, but everything else that
// s has begun is over, and whatever of it is still under way cannot speak to the new host.
func (s *Server) Succeed(stream io.ReadWriter) *Server {
	s.disconnect(everyone)
	cfg := s.cfg
	cfg.Stream = stream
	next := New(cfg)
	next.activity = s.activity
	return next
}
