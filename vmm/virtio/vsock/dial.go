package vsock

import (
	"context"
	"net"
)

// Dial connects to a listener on port of the guest. It waits for the guest's answer, so
// ctx should have an end. Errors are *net.OpError and wrap ErrNotReady, ErrRefused,
// ErrTooMany, ErrReset or the context's error.
func (d *Device) Dial(ctx context.Context, port uint32) (*Conn, error) {
	fail := func(err error) (*Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: Addr{}.Network(), Addr: Addr{CID: uint32(d.cid), Port: port}, Err: err}
	}
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	c, err := d.table.addDialled(d, port)
	if err != nil {
		return fail(err)
	}
	c.mu.Lock()
	c.post(sendRequest)
	c.mu.Unlock()
	d.flush()
	for {
		select {
		case <-c.writeWake:
		case <-ctx.Done():
			_ = c.Close()
			return fail(ctx.Err())
		}
		c.mu.Lock()
		answered, err := c.phase != connecting, c.err
		c.mu.Unlock()
		if err != nil {
			return fail(err)
		}
		if answered {
			return c, nil
		}
	}
}
