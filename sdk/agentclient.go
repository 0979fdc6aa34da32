package microsandbox

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"

	"github.com/gomsb/gomsb/guestagent/client"
	"github.com/gomsb/gomsb/guestagent/proto"
	"github.com/gomsb/gomsb/internal/launch"
)

// Flags of a RawFrame.
const (
	FlagTerminal     uint8 = 1 // the last frame of its id
	FlagSessionStart uint8 = 2 // the first frame of its id
	FlagShutdown     uint8 = 4 // asks the guest to shut down

	// The same by the names that the official SDK has besides.
	FLAG_TERMINAL      = FlagTerminal
	FLAG_SESSION_START = FlagSessionStart
	FLAG_SHUTDOWN      = FlagShutdown
)

// RawFrame is a frame of the agent protocol whose body, a CBOR envelope, is the caller's.
type RawFrame struct {
	ID    uint32
	Flags uint8
	Body  []byte
}

// AgentClient speaks the agent protocol with a guest, frame by frame. Sandbox does all that
// most programs want. It is safe for concurrent use.
type AgentClient struct{ c *client.Client }

// AgentStream are the frames that answer one request. It belongs to one consumer.
type AgentStream struct{ s *client.RawStream }

// AgentSocketPath is where the agent of the named sandbox is reached, whether it runs or
// not.
func AgentSocketPath(name string) (string, error) {
	if err := checkName(name); err != nil {
		return "", err
	}
	h, err := openHome()
	if err != nil {
		return "", err
	}
	places := launch.SocketCandidates(h.run(), h.sandboxes(), name)
	for _, path := range places {
		if _, err := os.Lstat(path); err == nil {
			return path, nil
		}
	}
	if len(places) == 0 {
		return "", fail(ErrInvalidConfig, "%s is too long for sockets below it", h.root)
	}
	return places[0], nil
}

// ConnectAgentSandbox connects to the agent of the named sandbox, which is
// ErrSandboxNotRunning if nothing answers.
func ConnectAgentSandbox(ctx context.Context, name string) (*AgentClient, error) {
	sb, err := ConnectSandbox(ctx, name)
	if err != nil {
		return nil, err
	}
	return &AgentClient{sb.client}, nil
}

// ConnectAgentPath connects to the agent that listens at path.
func ConnectAgentPath(ctx context.Context, path string) (*AgentClient, error) {
	c, err := client.Dial(ctx, path, client.Options{})
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, &Error{Kind: ErrSandboxNotRunning, Cause: err}
	}
	if err != nil {
		return nil, agentError(err)
	}
	return &AgentClient{c}, nil
}

// Request sends a frame under a new id and returns the first that answers it.
func (a *AgentClient) Request(ctx context.Context, flags uint8, body []byte) (*RawFrame, error) {
	f, err := a.c.RequestRaw(ctx, proto.Flags(flags), body)
	if err != nil {
		return nil, agentError(err)
	}
	return rawFrame(f), nil
}

// Stream sends a frame under a new id, whose answers the stream delivers.
func (a *AgentClient) Stream(ctx context.Context, flags uint8, body []byte) (*AgentStream, error) {
	s, err := a.c.OpenRaw(ctx, proto.Flags(flags), body)
	if err != nil {
		return nil, agentError(err)
	}
	return &AgentStream{s}, nil
}

// Send sends a frame under the id of a stream of this client.
func (a *AgentClient) Send(ctx context.Context, id uint32, flags uint8, body []byte) error {
	return agentError(a.c.SendRaw(ctx, proto.Frame{ID: id, Flags: proto.Flags(flags), Body: body}))
}

// ReadyBytes is what the guest said of itself when it became ready, in CBOR.
func (a *AgentClient) ReadyBytes() []byte { return a.c.ReadyBytes() }

// Close ends the connection, and what was started over it. It may be called again.
func (a *AgentClient) Close() error { return agentError(a.c.Close()) }

// CloseCtx is Close; it does not wait for anything.
func (a *AgentClient) CloseCtx(context.Context) error { return a.Close() }

// ID is the id of the stream's frames.
func (s *AgentStream) ID() uint32 { return s.s.ID() }

// Next returns the next frame; nil without an error at the end of the stream.
func (s *AgentStream) Next(ctx context.Context) (*RawFrame, error) {
	f, err := s.s.Next(ctx)
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	if err != nil {
		return nil, agentError(err)
	}
	return rawFrame(f), nil
}

// Close gives the stream up. It may be called again.
func (s *AgentStream) Close(context.Context) error {
	s.s.Close()
	return nil
}

func rawFrame(f proto.Frame) *RawFrame { return &RawFrame{f.ID, uint8(f.Flags), f.Body} }
