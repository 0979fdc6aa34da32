package client

import (
	"context"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// Ping asks the guest for a sign of life. It needs generation 6 and does not count as
// activity.
func (c *Client) Ping(ctx context.Context) error {
	s, err := c.open(ctx, proto.TypePing, proto.Empty{})
	if err != nil {
		return err
	}
	var pong proto.Empty
	return s.once(ctx, proto.TypePong, &pong)
}

// Touch counts as activity, so it restarts the guest's idle timer, and returns the
// activity counter after it. It needs generation 6.
func (c *Client) Touch(ctx context.Context) (activity uint64, err error) {
	s, err := c.open(ctx, proto.TypeTouch, proto.Empty{})
	if err != nil {
		return 0, err
	}
	var touched proto.Touched
	if err := s.once(ctx, proto.TypeTouched, &touched); err != nil {
		return 0, err
	}
	return touched.ActivitySeq, nil
}

// Shutdown asks the guest to power off. There is no reply: the connection ends ([Client.Done])
// when the sandbox has stopped.
func (c *Client) Shutdown(ctx context.Context) error {
	return c.send(ctx, 0, proto.TypeShutdown, nil)
}
