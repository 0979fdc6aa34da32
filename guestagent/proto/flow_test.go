package proto

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestFlow: the addition is announced by a key that others skip, and passes as any other
// message does.
func TestFlow(t *testing.T) {
	t.Parallel()
	b, err := AppendMessage(nil, 7, TypeFlow, Flow{Hop: HopClient, Limit: 1 << 40, Open: true, Input: true})
	require.NoError(t, err)
	f, err := NewReader(bytes.NewReader(b)).ReadFrame()
	require.NoError(t, err)
	m, err := ParseMessage(f)
	require.NoError(t, err)
	require.NoError(t, m.CheckFlags())
	assert.True(t, m.Type.Known())
	var got Flow
	require.NoError(t, m.Decode(&got))
	assert.Equal(t, Flow{Hop: HopClient, Limit: 1 << 40, Open: true, Input: true}, got)

	plain, err := AppendPayload(nil, Ready{})
	require.NoError(t, err)
	assert.NotContains(t, string(plain), "gomsb", "agents that lack it do not mention it")
	want := Ready{Flow: true, Input: 1 << 20}
	ours, err := AppendPayload(nil, want)
	require.NoError(t, err)
	var ready Ready
	require.NoError(t, Unmarshal(ours, &ready))
	assert.Equal(t, want, ready)
}

func TestDataMessageSize(t *testing.T) {
	t.Parallel()
	for _, typ := range []Type{TypeExecStdout, TypeExecStderr, TypeFSData, TypeTCPData} {
		for _, n := range []int{0, 1, 22, 23, 24, 200, 240, 250, 255, 256, 257, 65500, 65527, 65528, 65535, 65536, 1 << 20} {
			b, err := AppendDataMessage(nil, 1, typ, make([]byte, n))
			require.NoError(t, err)
			assert.Equal(t, len(b), DataMessageSize(typ, n), "%s, %d bytes", typ, n)
		}
	}
}
