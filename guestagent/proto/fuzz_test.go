package proto

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzFrame checks that the two frame readers agree and that what they accept is written
// again as it was.
func FuzzFrame(f *testing.F) {
	for _, line := range goldenLines(f) {
		f.Add(line.frame)
	}
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := NewReader(bytes.NewReader(b))
		for {
			want, n, err := ParseFrame(b)
			got, rerr := r.ReadFrame()
			if err != nil {
				require.ErrorIs(t, err, ErrFrame)
				require.ErrorIs(t, rerr, ErrFrame)
				return
			}
			if n == 0 {
				require.True(t, errors.Is(rerr, io.EOF) || errors.Is(rerr, io.ErrUnexpectedEOF), rerr)
				return
			}
			require.NoError(t, rerr)
			require.True(t, want.ID == got.ID && want.Flags == got.Flags && bytes.Equal(want.Body, got.Body))
			again, err := AppendFrame(nil, want)
			require.NoError(t, err)
			require.Equal(t, b[:n], again)
			b = b[n:]
		}
	})
}

// FuzzEnvelope checks that an accepted envelope survives being written in our own form.
func FuzzEnvelope(f *testing.F) {
	for _, line := range goldenLines(f) {
		f.Add(line.frame[LengthSize+MinFrame:])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ParseEnvelope(b)
		if err != nil {
			require.ErrorIs(t, err, ErrEnvelope)
			return
		}
		again, err := ParseEnvelope(AppendEnvelope(nil, e))
		require.NoError(t, err)
		require.Equal(t, e.Generation, again.Generation)
		require.Equal(t, e.Type, again.Type)
		require.True(t, bytes.Equal(e.Payload, again.Payload))
	})
}

// FuzzPayloads decodes the input as every payload. What one accepts must encode, and
// decode to the same value again.
func FuzzPayloads(f *testing.F) {
	kinds := []any{
		Ready{}, InitResolved{}, Empty{}, ClientDisconnected{}, ClockSync{}, CoreError{}, Touched{}, Bootstrap{},
		ExecRequest{}, ExecStarted{}, Data{}, ExecStdinError{}, ExecExited{}, ExecFailed{}, ExecResize{}, ExecSignal{},
		FSRequest{}, FSResponse{}, TCPConnect{}, TCPFailed{}, Flow{}, Renew{},
	}
	for _, line := range goldenLines(f) {
		e, err := ParseEnvelope(line.frame[LengthSize+MinFrame:])
		require.NoError(f, err)
		f.Add(e.Payload)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, kind := range kinds {
			v := reflect.New(reflect.TypeOf(kind))
			if err := Unmarshal(b, v.Interface()); err != nil {
				require.ErrorIs(t, err, ErrPayload)
				continue
			}
			first, err := AppendPayload(nil, v.Interface())
			require.NoError(t, err)
			again := reflect.New(reflect.TypeOf(kind))
			require.NoError(t, Unmarshal(first, again.Interface()))
			second, err := AppendPayload(nil, again.Interface())
			require.NoError(t, err)
			require.Equal(t, first, second)
			if boot, ok := v.Interface().(*Bootstrap); ok {
				if err := boot.Validate(); err != nil {
					require.ErrorIs(t, err, ErrBootstrap)
				}
			}
		}
	})
}
