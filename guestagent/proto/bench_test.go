package proto

import (
	"bytes"
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestDataPathAllocations checks that stream messages are read and written without
// allocating.
func TestDataPathAllocations(t *testing.T) {
	p := make([]byte, 4096)
	buf := make([]byte, 0, 8192)
	var err error
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		buf, err = AppendDataMessage(buf[:0], 7, TypeExecStdout, p)
	}))
	require.NoError(t, err)
	in := bytes.NewReader(buf)
	r := NewReader(in)
	read := func() {
		in.Reset(buf)
		f, err := r.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		m, err := ParseMessage(f)
		if err != nil {
			t.Fatal(err)
		}
		if data, err := DecodeData(m.Payload); err != nil || len(data) != 4096 {
			t.Fatal(len(data), err)
		}
	}
	read()
	assert.Zero(t, testing.AllocsPerRun(100, read))
}

func BenchmarkWriteData(b *testing.B) {
	w := NewWriter(io.Discard)
	p := make([]byte, 32<<10)
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for b.Loop() {
		if err := w.WriteData(1, TypeExecStdout, p); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadData(b *testing.B) {
	frame, err := AppendDataMessage(nil, 1, TypeExecStdout, make([]byte, 32<<10))
	require.NoError(b, err)
	in := bytes.NewReader(frame)
	r := NewReader(in)
	b.SetBytes(32 << 10)
	b.ReportAllocs()
	for b.Loop() {
		in.Reset(frame)
		f, err := r.ReadFrame()
		if err != nil {
			b.Fatal(err)
		}
		m, err := ParseMessage(f)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := DecodeData(m.Payload); err != nil {
			b.Fatal(err)
		}
	}
}
