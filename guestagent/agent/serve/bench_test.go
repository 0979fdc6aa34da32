//go:build linux

package serve

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// BenchmarkExecEcho is the shortest command from request to exit code.
func BenchmarkExecEcho(b *testing.B) {
	r := boot(b, Config{}).raw(b)
	for b.Loop() {
		r.send(1, proto.TypeExecRequest, proto.ExecRequest{Cmd: "/bin/true"})
		for {
			f, err := r.in.ReadFrame()
			require.NoError(b, err)
			if f.Flags&proto.FlagTerminal != 0 {
				break
			}
		}
	}
}

func BenchmarkPing(b *testing.B) {
	r := boot(b, Config{}).raw(b)
	for b.Loop() {
		r.send(1, proto.TypePing, proto.Empty{})
		_, err := r.in.ReadFrame()
		require.NoError(b, err)
	}
}

// BenchmarkExecFlood is the output of one command, per 32 MiB.
func BenchmarkExecFlood(b *testing.B) {
	const size = 32 << 20
	b.SetBytes(size)
	r := boot(b, Config{}).raw(b)
	for b.Loop() {
		r.send(1, proto.TypeExecRequest, proto.ExecRequest{Cmd: "/usr/bin/head", Args: []string{"-c", "33554432", "/dev/zero"}})
		for {
			f, err := r.in.ReadFrame()
			require.NoError(b, err)
			if f.Flags&proto.FlagTerminal != 0 {
				break
			}
		}
	}
}
