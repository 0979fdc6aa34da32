package flagtype

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPort(t *testing.T) {
	type parsed struct {
		bind        string
		host, guest uint16
		udp         bool
	}
	for s, want := range map[string]parsed{
		"8080:80":               {"", 8080, 80, false},
		"8080:80/tcp":           {"", 8080, 80, false},
		"0:80":                  {"", 0, 80, false},
		"5353:53/udp":           {"", 5353, 53, true},
		"0.0.0.0:8080:80":       {"0.0.0.0", 8080, 80, false},
		"[::]:8080:80/udp":      {"::", 8080, 80, true},
		"[fd00::1]:65535:1":     {"fd00::1", 65535, 1, false},
		"127.0.0.1:5353:53/udp": {"127.0.0.1", 5353, 53, true},
	} {
		bind, host, guest, udp, err := Port(s)
		require.NoError(t, err, s)
		assert.Equal(t, want, parsed{bind, host, guest, udp}, s)
	}
	for s, want := range map[string]string{
		"": "expected", "80": "expected", "80:x": "no port", "x:80": "no port", "80:0": "1 to 65535", "80:65536": "no port", "1:2/sctp": "use tcp or udp",
		"localhost:1:2": "no address", "::1:80:80": "in brackets", "[::1:80:80": "in brackets", "1:2:3:4": "in brackets", "-1:2": "no port",
	} {
		_, _, _, _, err := Port(s)
		assert.ErrorContains(t, err, want, s)
	}
}
