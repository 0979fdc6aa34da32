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
		"": "must be in format", "80": "must be in format", "80:x": "guest port: x", "x:80": "host port: x", "80:0": "guest port: 0", "80:65536": "guest port: 65536",
		"1:2/sctp": "guest port: 2/sctp", "localhost:1:2": "bind address: localhost", "::1:80:80": "in brackets", "[::1:80:80": "in brackets", "1:2:3:4": "in brackets", "-1:2": "host port: -1",
	} {
		_, _, _, _, err := Port(s)
		assert.ErrorContains(t, err, want, s)
	}
}
