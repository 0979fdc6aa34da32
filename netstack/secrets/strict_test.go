package secrets

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/netstack/policy"
)

// TestStrict: without any secret, nothing passes but requests for the host.
func TestStrict(t *testing.T) {
	t.Parallel()
	s, err := NewStore(Config{}, Where{Names: policy.NewIndex(nil)})
	require.NoError(t, err)
	assert.Nil(t, s.Rewriter(Connection{Host: "good.example", Intercepted: true}))
	const ours, theirs = "GET / HTTP/1.1\r\nHost: good.example\r\n\r\n", "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n"
	upgrade := "GET / HTTP/1.1\r\nHost: good.example\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"
	for name, c := range map[string]struct {
		sent string
		ok   bool
	}{
		"a request":            {ours, true},
		"requests":             {ours + ours + "POST / HTTP/1.1\r\nHost: good.example:443\r\nContent-Length: 5\r\n\r\n" + "hello" + ours, true},
		"an upgrade":           {upgrade + "\x81\x85abcdhello", true},
		"in two fragments":     {upgrade + "\x41\x82abcdhe\x80\x83abcdllo", true},
		"half a frame":         {upgrade + "\x81", false},
		"none after all":       {upgrade + theirs, false},
		"bare line feeds then": {upgrade + strings.ReplaceAll(theirs, "\r\n", "\n"), false},
		"a long method then":   {upgrade + strings.Repeat("X", 40) + theirs, false},
		"tabs then":            {upgrade + strings.ReplaceAll(theirs, " ", "\t"), false},
		"a blank line then":    {upgrade + "\r\n" + theirs, false},
		"another host":         {theirs, false},
		"another host later":   {ours + theirs, false},
		"another target":       {"GET http://evil.example/ HTTP/1.1\r\nHost: good.example\r\n\r\n", false},
		"two hosts":            {"GET / HTTP/1.1\r\nHost: good.example\r\nHost: evil.example\r\n\r\n", false},
		"no host":              {"GET / HTTP/1.1\r\n\r\n", false},
		"smuggled":             {"POST / HTTP/1.1\r\nHost: good.example\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + theirs, false},
		"a tunnel":             {"CONNECT good.example:443 HTTP/1.1\r\nHost: good.example\r\n\r\n", false},
		"another protocol":     {"SSH-2.0-x\r\n", false},
		"binary":               {"\x00\x01\x02", false},
		"TLS":                  {"\x16\x03\x01\x00\x05hello", false},
		"HTTP/2, another host": {http2To("evil.example"), false},
		"HTTP/2":               {http2To("good.example"), true},
		"HTTP/2, a tunnel":     {http2Asking(":method", "CONNECT", ":authority", "good.example"), false},
		"HTTP/2, an upgrade":   {http2Asking(":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":path", "/", ":authority", "good.example"), true},
	} {
		for _, pieces := range [][]string{{c.sent}, singly(c.sent)} {
			rw := s.Rewriter(Connection{Host: "good.example", Intercepted: true, Strict: true})
			require.NotNil(t, rw)
			_, err := feed(rw, pieces...)
			assert.Equal(t, c.ok, err == nil, "%s: %v", name, err)
			rw.Close()
		}
	}
}

// http2To is a connection with one request for a host.
func http2To(host string) string {
	return http2Asking(":method", "GET", ":scheme", "https", ":path", "/", ":authority", host)
}

// http2Asking is a connection with one request of these fields.
func http2Asking(fields ...string) string {
	c := newClient()
	c.open(1, true, c.fields(fields...))
	return c.String()
}

func TestRequestHost(t *testing.T) {
	t.Parallel()
	for text, c := range map[string]struct {
		host string
		more bool
	}{
		"": {"", true}, "GE": {"", true}, "GET / HTTP/1.1\r\nHost: a.example\r\n": {"", true},
		"GET / HTTP/1.1\r\nHost: A.Example.:80\r\n\r\nbody":                 {"a.example", false},
		"GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n":         {"a.example", false},
		"GET http://b.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n":         {"", false},
		"GET / HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n\r\n":      {"", false},
		"GET / HTTP/1.1\r\n\r\n":                                            {"", false},
		"GET / HTTP/1.1\r\nHost: a.example\r\nContent-Length: x\r\n\r\n":    {"", false},
		"GET / HTTP/1.1\nHost: a.example\n\n":                               {"", false},
		"SSH-2.0-x\r\n":                                                     {"", false},
		"\x16\x03\x01":                                                      {"", false},
		"GET / HTTP/1.1\r\nX: " + strings.Repeat("x", maxHead):              {"", false},
		"GET / HTTP/1.1\r\nX: " + strings.Repeat("x", maxHead) + "\r\n\r\n": {"", false},
	} {
		host, more := RequestHost([]byte(text))
		assert.Equal(t, c.host, host, "%.60q", text)
		assert.Equal(t, c.more, more, "%.60q", text)
	}
}
