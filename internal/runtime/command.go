package runtime

import (
	"errors"
	"net"

	"github.com/gomsb/gomsb/guestagent/proto"
	"github.com/gomsb/gomsb/internal/launch"
)

// Exit codes of a start-up command that did not run.
const (
	commandFailed   = 1
	commandNotFound = 127
	commandDenied   = 126
)

// runCommand runs the start-up command as a client of our own relay, so that its output
// is logged and its exit is seen like anybody else's. It returns its exit code.
func (c *control) runCommand(s *launch.Startup) int {
	ours, theirs := net.Pipe()
	defer func() { _ = ours.Close() }()
	c.relay.Attach(theirs)
	code, err := command(ours, s)
	if err != nil && c.ctx.Err() == nil {
		c.log.Error("the start-up command did not run", "cmd", s.Cmd, "err", err)
	}
	return code
}

func command(conn net.Conn, s *launch.Startup) (int, error) {
	in, out := proto.NewReader(conn), proto.NewWriter(conn)
	hs, err := in.ReadHandshake()
	if err != nil {
		return commandFailed, err
	}
	id := hs.IDs.First()
	request := proto.ExecRequest{
		Cmd: s.Cmd, Args: s.Args, Env: s.Env, Cwd: s.Cwd, User: s.User, Rows: proto.DefaultRows, Cols: proto.DefaultCols,
	}
	// The guest may answer before it has read all of it, and this pipe has no buffer.
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		if out.WriteMessage(id, proto.TypeExecRequest, request) == nil {
			_ = out.WriteData(id, proto.TypeExecStdin, nil) // there is no input
		}
	}()
	code, err := awaitExit(in, id)
	_ = conn.Close() // ends the sender, whose error then means nothing
	<-sent
	return code, err
}

func awaitExit(in *proto.Reader, id uint32) (int, error) {
	for {
		f, err := in.ReadFrame()
		if err != nil {
			return commandFailed, err
		}
		if f.ID != id || f.Flags&proto.FlagTerminal == 0 {
			continue
		}
		m, err := proto.ParseMessage(f)
		if err != nil {
			return commandFailed, err
		}
		switch m.Type {
		case proto.TypeExecExited:
			var exited proto.ExecExited
			err := m.Decode(&exited)
			return int(exited.Code), err
		case proto.TypeExecFailed:
			var failed proto.ExecFailed
			if err := m.Decode(&failed); err != nil {
				return commandFailed, err
			}
			return failureCode(failed.Kind), errors.New(string(failed.Kind) + ": " + failed.Message)
		default:
			return commandFailed, errors.New("the guest refused it: " + string(m.Type))
		}
	}
}

func failureCode(kind proto.ExecFailureKind) int {
	switch kind {
	case proto.FailNotFound:
		return commandNotFound
	case proto.FailPermissionDenied, proto.FailNotExecutable:
		return commandDenied
	}
	return commandFailed
}
