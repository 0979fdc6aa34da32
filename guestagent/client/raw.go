package client

import (
	"context"
	"fmt"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// RawStream is a session whose frames the caller encodes and decodes. The client does not
// look into their bodies.
type RawStream struct{ s *session }

// OpenRaw sends a frame with the given flags and body, a CBOR envelope, under a new id.
func (c *Client) OpenRaw(ctx context.Context, flags proto.Flags, body []byte) (*RawStream, error) {
	s, err := c.register("", true)
	if err != nil {
		return nil, err
	}
	if err := c.sendRaw(ctx, proto.Frame{ID: s.id, Flags: flags, Body: body}); err != nil {
		s.abandon()
		return nil, err
	}
	return &RawStream{s}, nil
}

// RequestRaw sends a frame and returns the first one that answers it.
func (c *Client) RequestRaw(ctx context.Context, flags proto.Flags, body []byte) (proto.Frame, error) {
	r, err := c.OpenRaw(ctx, flags, body)
	if err != nil {
		return proto.Frame{}, err
	}
	defer r.Close()
	f, err := r.Next(ctx)
	return f, endError(err)
}

// SendRaw sends a frame with an id of a session of this connection, or with id 0 and
// FlagShutdown. Other ids would make the relay close the connection and are refused.
func (c *Client) SendRaw(ctx context.Context, f proto.Frame) error {
	if !c.shake.IDs.Allows(f.ID, f.Flags) {
		return fmt.Errorf("frame id %d is not one of this connection's: want %d to %d", f.ID, c.shake.IDs.First(), c.shake.IDs.End-1)
	}
	return c.sendRaw(ctx, f)
}

func (c *Client) sendRaw(ctx context.Context, f proto.Frame) error {
	return c.writeFrame(ctx, func(dst []byte) ([]byte, error) { return proto.AppendFrame(dst, f) })
}

// ID returns the stream's id.
func (r *RawStream) ID() uint32 { return r.s.id }

// Next returns the next frame of the stream; io.EOF after its terminal one.
func (r *RawStream) Next(ctx context.Context) (proto.Frame, error) {
	ev, err := r.s.recv(ctx)
	if err != nil {
		return proto.Frame{}, err
	}
	return proto.Frame{ID: r.s.id, Flags: ev.flags, Body: ev.body}, nil
}

// Close gives the stream up; its later frames are dropped. It may be called more than once.
func (r *RawStream) Close() { r.s.abandon() }
