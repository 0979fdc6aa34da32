package secrets

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2/hpack"
)

// client writes frames as a guest does.
type client struct {
	bytes.Buffer
	block bytes.Buffer
	enc   *hpack.Encoder
}

func newClient() *client {
	c := &client{}
	c.WriteString(preface)
	c.enc = hpack.NewEncoder(&c.block)
	return c
}

func (c *client) frame(kind, flags byte, id uint32, payload string) {
	n := len(payload)
	c.Write([]byte{byte(n >> 16), byte(n >> 8), byte(n), kind, flags})
	c.Write(binary.BigEndian.AppendUint32(nil, id))
	c.WriteString(payload)
}

// fields encodes a header block: names and values in turn.
func (c *client) fields(list ...string) string {
	c.block.Reset()
	for i := 0; i < len(list); i += 2 {
		_ = c.enc.WriteField(hpack.HeaderField{Name: list[i], Value: list[i+1]})
	}
	return c.block.String()
}

// request is a header block for the API with more fields.
func (c *client) request(path string, more ...string) string {
	return c.fields(append([]string{":method", "GET", ":scheme", "https", ":authority", "api.example.com", ":path", path}, more...)...)
}

// open sends a complete header block.
func (c *client) open(id uint32, end bool, block string) {
	c.frame(frameHeaders, flagEndHeaders|endFlag(end), id, block)
}

func (c *client) data(id uint32, end bool, text string) { c.frame(frameData, endFlag(end), id, text) }

func endFlag(end bool) byte {
	if end {
		return flagEndStream
	}
	return 0
}

// received is what a server makes of a stream: a line for each frame.
func received(t testing.TB, s string) (lines []string) {
	t.Helper()
	rest, ok := strings.CutPrefix(s, preface)
	require.True(t, ok, "%q", s)
	dec := hpack.NewDecoder(tableSize, nil)
	var block []byte
	end := ""
	for len(rest) > 0 {
		size := int(rest[0])<<16 | int(rest[1])<<8 | int(rest[2])
		require.LessOrEqual(t, size, maxPayload)
		kind, flags, id := rest[3], rest[4], binary.BigEndian.Uint32([]byte(rest[5:]))
		payload := rest[frameHeader : frameHeader+size]
		rest = rest[frameHeader+size:]
		if kind == frameHeaders || kind == frameData {
			end = ""
			if flags&flagEndStream != 0 {
				end = " end"
			}
		}
		switch kind {
		case frameHeaders, frameContinuation:
			require.Zero(t, flags&(flagPadded|flagPriority))
			if block = append(block, payload...); flags&flagEndHeaders == 0 {
				continue
			}
			list, err := dec.DecodeFull(block)
			require.NoError(t, err)
			line := fmt.Sprint(id, " headers")
			for _, h := range list {
				line += " " + h.Name + "=" + h.Value
				assert.True(t, h.Sensitive, "never indexed")
			}
			lines, block = append(lines, line+end), nil
		case frameData:
			if flags&flagPadded != 0 {
				payload = payload[1 : len(payload)-int(payload[0])]
			}
			lines = append(lines, fmt.Sprint(id, " data ", payload, end))
		default:
			lines = append(lines, fmt.Sprint(id, " frame ", kind))
		}
	}
	return lines
}

func TestHTTP2(t *testing.T) {
	t.Parallel()
	const start = ":method=GET :scheme=https :authority=api.example.com :path="
	all := key(t, "api.example.com").inject(Injection{Headers: true, BasicAuth: true, QueryParams: true})
	wrong := key(t, "other.example.com")
	body := key(t, "api.example.com").inject(Injection{Body: true})
	for name, c := range map[string]struct {
		secret Secret
		write  func(*client)
		want   []string
		err    string
	}{
		"header": {secret: all, write: func(c *client) {
			c.frame(frameSettings, 0, 0, "")
			c.open(1, true, c.request("/", "x-key", "$KEY"))
			c.open(3, true, c.request("/", "x-key", "$KEY")) // from the table
		}, want: []string{"0 frame 4", "1 headers " + start + "/ x-key=" + sesame + " end", "3 headers " + start + "/ x-key=" + sesame + " end"}},
		"query": {secret: all, write: func(c *client) { c.open(1, true, c.request("/$KEY?k=$KEY")) },
			want: []string{"1 headers " + start + "/$KEY?k=s3same%2F%2B%3D end"}},
		"basic": {secret: all, write: func(c *client) { c.open(1, true, c.request("/", "authorization", "Basic "+basicOf("u:$KEY"))) },
			want: []string{"1 headers " + start + "/ authorization=Basic " + basicOf("u:"+sesame) + " end"}},
		"split block": {secret: all, write: func(c *client) {
			b := c.request("/", "x-key", "$KEY")
			c.frame(frameHeaders, flagEndStream|flagPadded|flagPriority, 1, "\x09\x00\x00\x00\x00\x03"+b[:5]+strings.Repeat("p", 9))
			c.frame(frameContinuation, 0, 1, b[5:len(b)-2])
			c.frame(frameContinuation, flagEndHeaders, 1, b[len(b)-2:])
		}, want: []string{"1 headers " + start + "/ x-key=" + sesame + " end"}},
		"large block": {secret: all, write: func(c *client) {
			b := c.request("/", "a", strings.Repeat("x", 40000), "x-key", "$KEY")
			c.frame(frameHeaders, 0, 1, b[:16000])
			c.frame(frameContinuation, 0, 1, b[16000:32000])
			c.frame(frameContinuation, flagEndHeaders, 1, b[32000:])
		}, want: []string{"1 headers " + start + "/ a=" + strings.Repeat("x", 40000) + " x-key=" + sesame}},
		"data and trailer": {secret: all, write: func(c *client) {
			c.open(1, false, c.request("/"))
			c.data(1, false, "$KEY")
			c.frame(frameData, flagPadded, 1, "\x14more"+strings.Repeat("\x00", 20))
			c.data(1, false, "")
			c.open(1, true, c.fields("t", "$KEY"))
			c.frame(frameReset, 0, 1, "\x00\x00\x00\x08")
		}, want: []string{"1 headers " + start + "/", "1 data $KEY", "1 data more", "1 data ", "1 headers t=$KEY end", "1 frame 3"}},
		"large data": {secret: body, write: func(c *client) {
			c.open(1, false, c.request("/"))
			c.data(1, true, strings.Repeat("x", 1<<14))
		}, want: []string{"1 headers " + start + "/", "1 data " + strings.Repeat("x", 1<<14) + " end"}},
		"table sizes": {secret: all, write: func(c *client) {
			c.enc.SetMaxDynamicTableSize(0)
			c.enc.SetMaxDynamicTableSize(100)
			c.open(1, true, c.request("/"))
		}, want: []string{"1 headers " + start + "/ end"}},
		"other frames": {secret: all, write: func(c *client) {
			c.frame(framePing, 0, 0, "12345678")
			c.frame(frameWindowUpdate, 0, 0, "\x00\x00\x00\x09")
			c.frame(0x42, 0, 3, "any")
			c.frame(frameGoAway, 0, 0, "12345678$KEY")
		}, want: []string{"0 frame 6", "0 frame 8", "3 frame 66", "0 frame 7"}},
		"streams end": {secret: all, write: func(c *client) {
			for i := range 2 * maxStreams {
				c.open(uint32(2*i+1), false, c.request("/"))
				c.data(uint32(2*i+1), true, "")
			}
		}},

		"wrong host":     {secret: wrong, write: func(c *client) { c.open(1, true, c.request("/", "x-key", "$KEY")) }, err: "block-and-log header raw"},
		"wrong, path":    {secret: wrong, write: func(c *client) { c.open(1, true, c.request("/$KEY")) }, err: "block-and-log unknown raw"},
		"wrong, query":   {secret: wrong, write: func(c *client) { c.open(1, true, c.request("/?%24KEY")) }, err: "block-and-log query percent_decoded"},
		"wrong, goodbye": {secret: wrong, write: func(c *client) { c.frame(frameGoAway, 0, 0, "12345678$KEY") }, err: "block-and-log unknown raw"},
		"wrong, trailer": {secret: wrong, write: func(c *client) { c.open(1, false, c.request("/")); c.open(1, true, c.fields("t", "$KEY")) }, err: "block-and-log header raw"},
		"wrong, data":    {secret: wrong, write: func(c *client) { c.open(1, false, c.request("/")); c.data(1, false, "$KEY") }, err: "block-and-log body raw"},
		"wrong, continued": {secret: wrong, write: func(c *client) {
			b := c.request("/", "x-key", "$KEY")
			c.frame(frameHeaders, 0, 1, b[:len(b)-2])
			c.frame(frameContinuation, flagEndHeaders, 1, b[len(b)-2:])
		}, err: "block-and-log header raw"},
		"wrong, data in pieces": {secret: wrong, write: func(c *client) {
			c.open(1, false, c.request("/"))
			c.open(3, false, c.request("/"))
			c.frame(frameData, flagPadded, 1, "\x03$Kpad")
			c.data(3, false, "between")
			c.data(1, false, "EY")
		}, err: "block-and-log body raw"},
		"streams do not mix": {secret: wrong, write: func(c *client) {
			c.open(1, false, c.request("/"))
			c.open(3, false, c.request("/"))
			c.data(1, false, "$K")
			c.data(3, false, "EY")
		}, want: []string{"1 headers " + start + "/", "3 headers " + start + "/", "1 data $K", "3 data EY"}},
		"body": {secret: body, write: func(c *client) {
			c.open(1, false, c.request("/"))
			c.data(1, false, "$K")
			c.data(1, true, "EY")
		}, err: "malformed"},
		"authority": {secret: all, write: func(c *client) {
			c.open(1, true, c.fields(":method", "GET", ":authority", "evil.example", ":path", "/"))
		}, err: "malformed"},
		"no authority":       {secret: all, write: func(c *client) { c.open(1, true, c.fields(":method", "GET", ":path", "/")) }, err: "malformed"},
		"two authorities":    {secret: all, write: func(c *client) { c.open(1, true, c.request("/", ":authority", "api.example.com")) }, err: "malformed"},
		"host":               {secret: all, write: func(c *client) { c.open(1, true, c.request("/", "host", "evil.example")) }, err: "malformed"},
		"unknown field":      {secret: all, write: func(c *client) { c.open(1, true, c.fields(":status", "200", ":authority", "api.example.com")) }, err: "malformed"},
		"pseudo is late":     {secret: all, write: func(c *client) { c.open(1, true, c.request("/", "a", "b", ":protocol", "x")) }, err: "malformed"},
		"pseudo in trailer":  {secret: all, write: func(c *client) { c.open(1, false, c.request("/")); c.open(1, true, c.fields(":path", "/")) }, err: "malformed"},
		"upper case":         {secret: all, write: func(c *client) { c.open(1, true, c.request("/", "Host", "x")) }, err: "malformed"},
		"line in value":      {secret: all, write: func(c *client) { c.open(1, true, c.request("/", "a", "b\r\nc: d")) }, err: "malformed"},
		"data first":         {secret: all, write: func(c *client) { c.data(1, true, "") }, err: "malformed"},
		"data after the end": {secret: all, write: func(c *client) { c.open(1, true, c.request("/")); c.data(1, true, "") }, err: "malformed"},
		"stream again":       {secret: all, write: func(c *client) { c.open(1, true, c.request("/")); c.open(1, true, c.request("/")) }, err: "malformed"},
		"even stream":        {secret: all, write: func(c *client) { c.open(2, true, c.request("/")) }, err: "malformed"},
		"stream zero":        {secret: all, write: func(c *client) { c.open(0, true, c.request("/")) }, err: "malformed"},
		"push":               {secret: all, write: func(c *client) { c.frame(framePushPromise, flagEndHeaders, 1, "\x00\x00\x00\x02") }, err: "malformed"},
		"interrupted": {secret: all, write: func(c *client) {
			c.frame(frameHeaders, 0, 1, c.request("/"))
			c.frame(framePing, 0, 0, "12345678")
		}, err: "malformed"},
		"continuation of another": {secret: all, write: func(c *client) {
			c.frame(frameHeaders, 0, 1, c.request("/"))
			c.frame(frameContinuation, flagEndHeaders, 3, "")
		}, err: "malformed"},
		"continuation alone": {secret: all, write: func(c *client) { c.frame(frameContinuation, flagEndHeaders, 1, "") }, err: "malformed"},
		"bad block":          {secret: all, write: func(c *client) { c.open(1, true, "\xff\xff\xff") }, err: "malformed"},
		"table too large":    {secret: all, write: func(c *client) { c.open(1, true, "\x3f\xe2\x1f"+c.request("/")) }, err: "malformed"},
		"long block": {secret: all, write: func(c *client) {
			c.frame(frameHeaders, 0, 1, "")
			for range 5 {
				c.frame(frameContinuation, 0, 1, strings.Repeat("\x00", maxPayload))
			}
		}, err: "malformed"},
		"bomb": {secret: all, write: func(c *client) {
			c.open(1, false, c.request("/", "a", strings.Repeat("x", 4000)))
			block := c.fields("a", strings.Repeat("x", 4000))
			c.open(3, false, c.request("/")+strings.Repeat(block, 20))
		}, err: "malformed"},
		"many fields": {secret: all, write: func(c *client) {
			c.open(1, false, c.request("/")+strings.Repeat("\x90", 1100))
		}, err: "malformed"},
		"many streams": {secret: all, write: func(c *client) {
			for i := range maxStreams + 1 {
				c.open(uint32(2*i+1), false, c.request("/"))
			}
		}, err: "malformed"},
		"padding of headers": {secret: all, write: func(c *client) { c.frame(frameHeaders, flagPadded|flagEndHeaders, 1, "\x09") }, err: "malformed"},
		"short priority":     {secret: all, write: func(c *client) { c.frame(frameHeaders, flagPriority|flagEndHeaders, 1, "\x09") }, err: "malformed"},
		"padding of data": {secret: all, write: func(c *client) {
			c.open(1, false, c.request("/"))
			c.frame(frameData, flagPadded, 1, "\x02\x00")
		}, err: "malformed"},
		"no padding at all": {secret: all, write: func(c *client) {
			c.open(1, false, c.request("/"))
			c.frame(frameData, flagPadded, 1, "")
		}, err: "malformed"},
		"large frame":  {secret: all, write: func(c *client) { c.frame(0x42, 0, 0, strings.Repeat("x", maxPayload+1)) }, err: "malformed"},
		"half a frame": {secret: all, write: func(c *client) { c.WriteString("\x00\x00") }, err: "malformed"},
		"half a block": {secret: all, write: func(c *client) { c.frame(frameHeaders, 0, 1, "") }, err: "malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := newClient()
			c.write(client)
			in := client.String()
			for how, pieces := range map[string][]string{"at once": {in}, "byte by byte": singly(in)} {
				out, err := feed(rewriter(t, tlsConn, Action{}, c.secret), pieces...)
				require.Equal(t, c.err, kindOfError(err), how)
				if c.want != nil {
					assert.Equal(t, c.want, received(t, out), how)
				}
			}
		})
	}
}

func TestHTTP2ViolationSaysWhere(t *testing.T) {
	t.Parallel()
	c := newClient()
	c.open(5, true, c.request("/a?b", "x", "$KEY"))
	_, err := feed(rewriter(t, tlsConn, Action{}, key(t, "other.example.com")), c.String())
	assert.Equal(t, &Violation{
		Action: KindLog, EnvVar: "KEY", Placeholder: "$KEY", Protocol: "http/2", SNI: "api.example.com", Host: "api.example.com",
		Method: "GET", Path: "/a", Location: "header", Form: "raw", Dst: api, Stream: 5,
	}, err)
}

// Open streams do not keep the long texts that a guest makes of a few bytes.
func TestHTTP2KeepsLittle(t *testing.T) {
	t.Parallel()
	c := newClient()
	long := strings.Repeat("x", 4000)
	c.open(1, false, c.fields(":method", long, ":scheme", "https", ":authority", long, ":path", "/"+long))
	e := rewriter(t, Connection{Dst: api}, Action{}, key(t, "*").optIn()).(*engine)
	_, err := e.Rewrite(nil, c.Bytes())
	require.NoError(t, err)
	place := e.proto.(*http2).streams[1].place
	for _, text := range []string{place.method, place.host, place.path} {
		assert.Len(t, text, maxText)
	}
}

func TestHTTP2InPlain(t *testing.T) {
	t.Parallel()
	c := newClient()
	c.open(1, true, c.request("/", "x", "$KEY"))
	_, err := feed(rewriter(t, Connection{Dst: api}, Action{}, key(t, "api.example.com").optIn()), c.String())
	assert.Equal(t, "block-and-log header raw", kindOfError(err), "nothing proves the host")
	out, err := feed(rewriter(t, Connection{Dst: api}, Action{}, key(t, "*").optIn()), c.String())
	require.NoError(t, err)
	assert.Contains(t, strings.Join(received(t, out), "\n"), sesame)
}
