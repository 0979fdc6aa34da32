package microsandbox

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDetachKeys(t *testing.T) {
	for keys, want := range map[string]string{
		"": "\x1d", "ctrl-]": "\x1d", "ctrl-p,ctrl-q": "\x10\x11", "CTRL-A": "\x01", "a,b": "ab", `ctrl-\`: "\x1c", "ctrl-@": "\x00", "ctrl-^": "\x1e", "ctrl-_": "\x1f", "ctrl-[": "\x1b",
	} {
		seq, err := parseDetachKeys(keys)
		require.NoError(t, err, keys)
		assert.Equal(t, want, string(seq), keys)
	}
	for _, keys := range []string{"ctrl-", "ctrl-1", "ctrl-ab", "ab", ",", "a,,b"} {
		_, err := parseDetachKeys(keys)
		assert.True(t, IsKind(err, ErrInvalidConfig), keys)
	}
}

func TestDetachReader(t *testing.T) {
	for name, c := range map[string]struct {
		seq, in, want string
		detached      bool
	}{
		"none":             {"\x1d", "hello", "hello", false},
		"single key":       {"\x1d", "he\x1dllo", "he", true},
		"sequence":         {"pq", "xpqy", "x", true},
		"broken sequence":  {"pq", "pxpq", "px", true},
		"held to the end":  {"pq", "xp", "xp", false},
		"overlapping":      {"aab", "aaab", "a", true},
		"overlapping long": {"abab", "ababab", "", true},
		"not overlapping":  {"aab", "aaxaay", "aaxaay", false},
	} {
		for size, wrap := range map[string]func(io.Reader) io.Reader{"whole": func(r io.Reader) io.Reader { return r }, "bytes": iotest.OneByteReader} {
			t.Run(name+" "+size, func(t *testing.T) {
				r := &detachReader{in: wrap(strings.NewReader(c.in)), seq: []byte(c.seq)}
				var got bytes.Buffer
				buf := make([]byte, 16)
				for {
					n, err := r.Read(buf)
					got.Write(buf[:n])
					if err != nil {
						assert.Equal(t, c.detached, errors.Is(err, ErrDetached), "%v", err)
						break
					}
				}
				assert.Equal(t, c.want, got.String())
			})
		}
	}
	_, err := (&detachReader{in: strings.NewReader("x"), seq: []byte("ab")}).Read(make([]byte, 2))
	assert.ErrorIs(t, err, io.ErrShortBuffer)
}

func TestInputEnds(t *testing.T) {
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer func() { _ = r.Close() }()
	in, err := newInput(r)
	require.NoError(t, err)
	defer in.close()
	_, err = w.WriteString("x")
	require.NoError(t, err)
	buf := make([]byte, 8)
	n, err := in.Read(buf)
	require.NoError(t, err)
	assert.Equal(t, "x", string(buf[:n]))
	time.AfterFunc(20*time.Millisecond, in.end)
	_, err = in.Read(buf)
	assert.ErrorIs(t, err, os.ErrClosed)
	require.NoError(t, w.Close())
	again, err := newInput(r)
	require.NoError(t, err)
	defer again.close()
	defer again.end()
	_, err = again.Read(buf)
	assert.ErrorIs(t, err, io.EOF)
}
