package flagtype

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestVsock(t *testing.T) {
	for s, want := range map[string]struct {
		path  string
		port  uint32
		dgram bool
	}{
		"/run/a.sock:5000": {"/run/a.sock", 5000, false}, "./a:b:1/stream": {"./a:b", 1, false}, "s:4294967295/dgram": {"s", 4294967295, true},
	} {
		path, port, dgram, err := Vsock(s)
		require.NoError(t, err, s)
		assert.Equal(t, want.path, path, s)
		assert.Equal(t, want.port, port, s)
		assert.Equal(t, want.dgram, dgram, s)
	}
	for _, s := range []string{"", "/s", ":1", "/s:", "/s:0", "/s:x", "/s:4294967296", "/s:1/seq"} {
		_, _, _, err := Vsock(s)
		assert.Error(t, err, s)
	}
}
