package microsandbox

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net"
	"syscall"
	"time"

	"github.com/gomsb/gomsb/internal/launch"
)

// controlPatience is how long a runtime may take to answer one request: it waits for the
// guest.
const controlPatience = 150 * time.Second

// maxControlReply bounds an answer, bytes.
const maxControlReply = 1 << 20

// controlSocket is where a running sandbox takes changes. The zero value stands for one
// that takes none.
type controlSocket string

// controlRequest is one line to the runtime; Op says which fields belong to it.
type controlRequest struct {
	Op       string                `json:"op"`
	TotalMiB uint32                `json:"total_mib,omitempty"`
	Online   uint8                 `json:"online,omitempty"`
	Changes  []launch.SecretChange `json:"changes,omitempty"`
	Dir      string                `json:"dir,omitempty"`
	// Passing says that what is saved at Dir is for copies that are made at once. Runtimes that
	// do not know it save something that lasts.
	Passing bool `json:"passing,omitempty"`
}

// capabilities asks what can be changed. A sandbox without a control socket can do
// nothing.
func (s controlSocket) capabilities(ctx context.Context) (launch.Capabilities, error) {
	r, err := s.ask(ctx, controlRequest{Op: "capabilities"})
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return launch.Capabilities{}, nil
	}
	if err != nil || r.Capabilities == nil {
		return launch.Capabilities{}, err
	}
	return *r.Capabilities, nil
}

// ask sends one request and returns the answer. What the runtime refuses is
// ErrUnsupportedOperation.
func (s controlSocket) ask(ctx context.Context, r controlRequest) (*launch.ControlReply, error) {
	ctx, cancel := context.WithTimeout(ctx, controlPatience)
	defer cancel()
	conn, err := s.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if err := send(conn, r); err != nil {
		if ctx.Err() != nil {
			err = cancelled(ctx)
		}
		return nil, err
	}
	return receive(ctx, conn)
}

const (
	// withdrawal takes a request back, and withdrawTime is how long a runtime may take to
	// leave nothing of what it was asked for.
	withdrawal   = `{"op":"cancel"}` + "\n"
	withdrawTime = 10 * time.Second
)

// askLong is ask for what takes as long as it takes. When ctx ends, the request is withdrawn:
// the runtime is at nothing any more on return, unless that took it more than withdrawTime.
func (s controlSocket) askLong(ctx context.Context, r controlRequest) (*launch.ControlReply, error) {
	conn, err := s.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	if err := send(conn, r); err != nil { // it is short: that does not block
		return nil, err
	}
	defer context.AfterFunc(ctx, func() {
		_ = conn.SetDeadline(time.Now().Add(withdrawTime))
		_, _ = conn.Write([]byte(withdrawal))
	})()
	return receive(ctx, conn)
}

func (s controlSocket) dial(ctx context.Context) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", string(s))
	return conn, wrap(ErrIO, err)
}

// send writes a request.
func send(conn net.Conn, r controlRequest) error {
	text, err := json.Marshal(r)
	if err != nil {
		return wrap(ErrInternal, err)
	}
	if _, err := conn.Write(append(text, '\n')); err != nil {
		return controlFailed(err)
	}
	return nil
}

// receive reads the answer.
func receive(ctx context.Context, conn net.Conn) (*launch.ControlReply, error) {
	reply := new(launch.ControlReply)
	line, err := bufio.NewReader(io.LimitReader(conn, maxControlReply)).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, reply)
	}
	switch {
	case ctx.Err() != nil:
		return nil, cancelled(ctx)
	case err != nil:
		return nil, controlFailed(err)
	case !reply.OK:
		return nil, fail(ErrUnsupportedOperation, "the running sandbox refuses: %s", reply.Error)
	}
	return reply, nil
}

func controlFailed(err error) error {
	return &Error{Kind: ErrIO, Message: "control socket", Cause: err}
}
