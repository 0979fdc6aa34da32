//go:build linux

package boot

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/guestagent/agent/renew"
	"github.com/gomsb/gomsb/guestagent/proto"
)

// Host is the stream to the host.
type Host interface {
	io.ReadWriter
	// SetReadTimeout bounds each read; one that takes longer is os.ErrDeadlineExceeded.
	SetReadTimeout(time.Duration) error
}

// patience is how long the host may take for each of its messages.
const patience = 60 * time.Second

var errSilent = errors.New("the host did not answer in time")

// next reads one message. It takes no byte more, so that the server can go on.
func next(host Host) (proto.Message, error) {
	f, err := proto.NewReader(host).ReadFrame()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return proto.Message{}, fmt.Errorf("%w (%s)", errSilent, patience)
	}
	if err != nil {
		return proto.Message{}, fmt.Errorf("read from the host: %w", err)
	}
	return proto.ParseMessage(f)
}

// expect reads one control message of a type.
func expect(host Host, t proto.Type) (proto.Message, error) {
	m, err := next(host)
	return check(m, err, t)
}

// renewal reads and checks a renewal from m.
func renewal(m proto.Message, err error) (*proto.Renew, error) {
	if m, err = check(m, err, proto.TypeRenew); err != nil {
		return nil, err
	}
	r := &proto.Renew{}
	if err := m.Decode(r); err != nil {
		return nil, err
	}
	return r, r.Validate()
}

// renewed carries out a renewal.
func renewed(m proto.Message) error {
	r, err := renewal(m, nil)
	if err != nil {
		return err
	}
	return renew.Apply(r)
}

// check returns m and err, unless m is no control message of type t.
func check(m proto.Message, err error, t proto.Type) (proto.Message, error) {
	switch {
	case err != nil:
		return m, err
	case m.Type != t:
		return m, fmt.Errorf("the host sent %q, not %s", m.Type, t)
	case m.ID != 0:
		return m, fmt.Errorf("the host sent %s with id %d, not 0", t, m.ID)
	}
	return m, m.CheckFlags()
}

// ErrCopied says that the stream to the host broke before the host said anything: the
// machine was saved while it waited, and this one is a copy, whose host is another. The
// guest must connect anew.
var ErrCopied = errors.New("this guest is a copy of one that was saved")

// Copied reports that err is how the stream to the host ends in a copy of a saved machine:
// all connections that machine had are reset.
func Copied(err error) bool {
	return errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.ENOTCONN)
}

// receive reads and checks the bootstrap, which must be the host's first message but for
// a renewal.
func receive(host Host) (*proto.Bootstrap, error) {
	// A guest that was saved here has no idea how long ago that was, and on some hosts its
	// clock has gone on: the host is not hurried.
	if err := host.SetReadTimeout(0); err != nil {
		return nil, err
	}
	m, err := next(host)
	if err := host.SetReadTimeout(patience); err != nil {
		return nil, err
	}
	if Copied(err) {
		return nil, fmt.Errorf("%w: %w", ErrCopied, err)
	}
	if err == nil && m.Type == proto.TypeRenew {
		if err := renewed(m); err != nil {
			return nil, err
		}
		m, err = next(host)
	}
	if m, err = check(m, err, proto.TypeBootstrap); err != nil {
		return nil, err
	}
	if m.Generation < proto.GenerationBootstrap {
		return nil, fmt.Errorf("the host sent a bootstrap of protocol generation %d, need %d", m.Generation, proto.GenerationBootstrap)
	}
	b := &proto.Bootstrap{}
	if err := m.Decode(b); err != nil {
		return nil, err
	}
	return b, b.Validate()
}

// awaitAck reads the host's answer to init.resolved.
func awaitAck(host Host) error {
	_, err := expect(host, proto.TypeInitAck)
	return err
}

func send(host Host, t proto.Type, payload any) error {
	b, err := proto.AppendMessage(nil, 0, t, payload)
	if err == nil {
		_, err = host.Write(b)
	}
	if err != nil {
		return fail(KindConfig, "tell the host "+string(t), err)
	}
	return nil
}

// Report tells the host why the boot failed. That it cannot be told is its loss.
func Report(host Host, err error) {
	kind := KindConfig
	var e *Error
	if errors.As(err, &e) {
		kind = e.Kind
	}
	_ = send(host, proto.TypeError, proto.CoreError{Kind: kind, Message: err.Error()})
}
