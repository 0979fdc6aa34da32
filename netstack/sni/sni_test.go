package sni

import (
	"crypto/tls"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// hello is what a TLS client sends first for a server name.
func hello(t testing.TB, name string) []byte {
	t.Helper()
	client, server := net.Pipe()
	t.Cleanup(func() { _ = server.Close() })
	go func() {
		c := tls.Client(client, &tls.Config{ServerName: name, InsecureSkipVerify: true})
		_ = c.Handshake() // it fails when the pipe is closed
		_ = client.Close()
	}()
	require.NoError(t, server.SetReadDeadline(time.Now().Add(20*time.Second)))
	b := make([]byte, Limit)
	n, err := server.Read(b)
	require.NoError(t, err)
	return b[:n]
}

// split puts the handshake message of b, one record, into records of n bytes.
func split(b []byte, n int) (out []byte) {
	for body := b[recordHeader:]; len(body) > 0; {
		k := min(n, len(body))
		out = append(out, 22, 3, 1, byte(k>>8), byte(k))
		out = append(out, body[:k]...)
		body = body[k:]
	}
	return out
}

// TestParse is F10, as is TestNoName.
func TestParse(t *testing.T) {
	t.Parallel()
	b := hello(t, "Example.COM")
	name, r := Parse(b)
	assert.Equal(t, Found, r)
	assert.Equal(t, "example.com", name)
	for _, n := range []int{1, 3, 5, 100} {
		s := split(b, n)
		name, r = Parse(s)
		assert.Equal(t, Found, r, "records of %d", n)
		assert.Equal(t, "example.com", name)
		for i := range s[:len(s)-1] {
			_, r := Parse(s[:i])
			require.Equal(t, More, r, "%d bytes in records of %d", i, n)
		}
	}
	name, r = Parse(append(b, "application data"...))
	assert.Equal(t, Found, r)
	assert.Equal(t, "example.com", name)
}

func TestNoName(t *testing.T) {
	t.Parallel()
	twice := hello(t, "a.example")
	// A second list of names in a second extension: the extensions' own length grows.
	ext := []byte{0, 0, 0, 14, 0, 12, 0, 0, 9, 'b', '.', 'e', 'x', 'a', 'm', 'p', 'l', 'e'}
	twice = append(twice, ext...)
	grow := func(at, size int) {
		for i := at + size - 1; i >= at; i-- {
			v := int(twice[i]) + len(ext)
			if i == at+size-1 {
				twice[i] = byte(v)
				if v < 256 {
					return
				}
				twice[i-1] += byte(v >> 8)
				return
			}
		}
	}
	grow(3, 2)
	grow(6, 3)
	at := recordHeader + handshakeHeader + 34
	at += 1 + int(twice[at])
	at += 2 + int(twice[at])<<8 + int(twice[at+1])
	at += 1 + int(twice[at])
	grow(at, 2)
	long := make([]byte, Limit)
	copy(long, []byte{22, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xf0})
	for name, b := range map[string][]byte{
		"HTTP":               []byte("GET / HTTP/1.1\r\n"),
		"SSH":                []byte("S"),
		"an address":         hello(t, "192.0.2.1"),
		"version":            {22, 2},
		"empty record":       {22, 3, 1, 0, 0},
		"record too long":    {22, 3, 1, 0xff, 0xff},
		"another handshake":  {22, 3, 1, 0, 4, 2},
		"hello too long":     {22, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff},
		"empty hello":        {22, 3, 1, 0, 4, 1, 0, 0, 0},
		"never complete":     long,
		"two names":          twice,
		"changes its record": append(split(hello(t, "x.example"), 20)[:25], 'G'),
	} {
		got, r := Parse(b)
		assert.Equal(t, None, r, name)
		assert.Empty(t, got, name)
	}
	_, r := Parse(nil)
	assert.Equal(t, More, r)
}

func FuzzParse(f *testing.F) {
	f.Add(hello(f, "example.com"))
	f.Add(split(hello(f, "example.com"), 7))
	f.Add([]byte{22, 3, 1, 0, 50, 1, 0, 0, 46, 3, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		name, r := Parse(b)
		require.Equal(t, r == Found, name != "")
		if r == Found && len(b) < Limit {
			again, r := Parse(append(b, 0))
			require.Equal(t, Found, r)
			require.Equal(t, name, again, "what follows makes no difference")
		}
	})
}
