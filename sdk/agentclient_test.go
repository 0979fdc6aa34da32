package microsandbox

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/guestagent/proto"
	"github.com/gomsb/gomsb/internal/runtime/runtimetest"
)

// frameBody is the envelope of a message.
func frameBody(t *testing.T, typ proto.Type, payload any) []byte {
	t.Helper()
	p, err := proto.AppendPayload(nil, payload)
	require.NoError(t, err)
	return proto.AppendEnvelope(nil, proto.Envelope{Generation: 7, Type: typ, Payload: p})
}

func TestAgentClient(t *testing.T) {
	newGuests(t, runtimetest.Guest{})
	ctx := testContext(t)
	early, err := AgentSocketPath("a")
	require.NoError(t, err, "the sandbox need not be there")
	assert.NotEmpty(t, early)
	_, err = ConnectAgentPath(ctx, early)
	assert.True(t, IsKind(err, ErrSandboxNotRunning), "%v", err)
	_, err = ConnectAgentSandbox(ctx, "a")
	assert.True(t, IsKind(err, ErrSandboxNotRunning), "%v", err)
	_, err = AgentSocketPath("../a")
	assert.True(t, IsKind(err, ErrInvalidConfig), "%v", err)

	create(t, "a")
	ping := proto.AppendEnvelope(nil, proto.Envelope{Generation: 7, Type: proto.TypePing, Payload: []byte{0xa0}})
	path, err := AgentSocketPath("a")
	require.NoError(t, err)
	for name, connect := range map[string]func() (*AgentClient, error){
		"by name": func() (*AgentClient, error) { return ConnectAgentSandbox(ctx, "a") },
		"by path": func() (*AgentClient, error) { return ConnectAgentPath(ctx, path) },
	} {
		t.Run(name, func(t *testing.T) {
			c, err := connect()
			require.NoError(t, err)
			assert.NotEmpty(t, c.ReadyBytes())
			pong, err := c.Request(ctx, 0, ping)
			require.NoError(t, err)
			assert.Contains(t, string(pong.Body), "core.pong")

			s, err := c.Stream(ctx, FlagSessionStart, frameBody(t, proto.TypeExecRequest, proto.ExecRequest{Cmd: "echo", Args: []string{"raw"}}))
			require.NoError(t, err)
			require.NotZero(t, s.ID())
			var last *RawFrame
			all := ""
			for f, err := range s.Frames(ctx) {
				require.NoError(t, err)
				assert.Equal(t, s.ID(), f.ID)
				last, all = f, all+string(f.Body)
			}
			require.NotNil(t, last)
			assert.NotZero(t, last.Flags&FlagTerminal)
			assert.Contains(t, all, "raw\n")
			end, err := s.Next(ctx)
			require.NoError(t, err)
			assert.Nil(t, end)
			require.NoError(t, s.Close(ctx))
			require.NoError(t, s.Close(ctx))

			assert.Error(t, c.Send(ctx, 1<<31, 0, ping), "nobody's id")
			gone, cancel := context.WithCancel(ctx)
			cancel()
			_, err = c.Request(gone, 0, ping)
			assert.True(t, IsKind(err, ErrCancelled), "%v", err)
			require.NoError(t, c.Close())
			require.NoError(t, c.CloseCtx(ctx))
			_, err = c.Request(ctx, 0, ping)
			assert.True(t, IsKind(err, ErrInvalidHandle), "%v", err)
		})
	}
}
