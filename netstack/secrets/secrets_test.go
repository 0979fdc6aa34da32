package secrets

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/netstack/policy"
)

var (
	api       = netip.MustParseAddrPort("203.0.113.7:443") // api.example.com
	elsewhere = netip.MustParseAddrPort("203.0.113.9:443") // resolved by nobody
	gateway   = netip.MustParseAddrPort("172.16.0.1:443")
)

const sesame = "s3same/+=" // the value of the secret KEY

// where knows that api.example.com is api.
func testWhere() Where {
	names := policy.NewIndex(nil)
	names.Set("api.example.com", false, []netip.Addr{api.Addr()}, time.Hour)
	return Where{Names: names, Gateways: []netip.Addr{gateway.Addr()}, Alias: "host.internal"}
}

func hosts(t testing.TB, list ...string) (out []HostPattern) {
	t.Helper()
	for _, s := range list {
		p, err := ParseHost(s)
		require.NoError(t, err)
		out = append(out, p)
	}
	return out
}

// key is the secret KEY with placeholder $KEY for hosts.
func key(t testing.TB, allowed ...string) Secret {
	return Secret{
		EnvVar: "KEY", Value: NewValue(sesame), Placeholder: "$KEY", Hosts: hosts(t, allowed...),
		Injection: DefaultInjection(), RequireTLS: true,
	}
}

func (s Secret) inject(in Injection) Secret { s.Injection = in; return s }
func (s Secret) named(env, placeholder, value string) Secret {
	s.EnvVar, s.Placeholder, s.Value = env, placeholder, NewValue(value)
	return s
}
func (s Secret) optIn() Secret { s.RequireTLS = false; return s }
func (s Secret) on(k Kind, hosts ...HostPattern) Secret {
	s.OnViolation = &Action{k, hosts}
	return s
}

var tlsConn = Connection{Host: "api.example.com", Dst: api, Intercepted: true}

func rewriter(t testing.TB, c Connection, on Action, list ...Secret) Rewriter {
	t.Helper()
	s, err := NewStore(Config{list, on}, testWhere())
	require.NoError(t, err)
	return s.Rewriter(c)
}

// feed writes pieces and ends the stream.
func feed(rw Rewriter, pieces ...string) (string, error) {
	defer rw.Close()
	var out []byte
	for _, p := range pieces {
		var err error
		if out, err = rw.Rewrite(out, []byte(p)); err != nil {
			return string(out), err
		}
	}
	out, err := rw.End(out)
	return string(out), err
}

// singly is each byte of its own.
func singly(s string) (list []string) {
	for i := range len(s) {
		list = append(list, s[i:i+1])
	}
	return list
}

func basicOf(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// get is a request for the API with more header lines.
func get(target string, lines ...string) string {
	return "GET " + target + " HTTP/1.1\r\nHost: api.example.com\r\n" + strings.Join(append(lines, "", ""), "\r\n")
}

// post is one with a body.
func post(body string, lines ...string) string {
	return "POST /p HTTP/1.1\r\nHost: api.example.com\r\n" + strings.Join(append(lines, "", ""), "\r\n") + body
}

func TestSubstitution(t *testing.T) {
	t.Parallel()
	all := Injection{Headers: true, BasicAuth: true, QueryParams: true, Body: true}
	only := func(in Injection) []Secret { return []Secret{key(t, "api.example.com").inject(in)} }
	def := []Secret{key(t, "api.example.com")}
	for name, c := range map[string]struct {
		secrets  []Secret
		in, want string
	}{
		"header":             {def, get("/", "Authorization: Bearer $KEY"), get("/", "Authorization: Bearer "+sesame)},
		"several":            {def, get("/", "A: $KEY$KEY", "B:$KEY "), get("/", "A: "+sesame+sesame, "B:"+sesame+" ")},
		"nothing to replace": {def, get("/p?q=1", "A: b"), get("/p?q=1", "A: b")},
		"not in path":        {def, get("/$KEY"), get("/$KEY")},
		"not in query":       {def, get("/?k=$KEY"), get("/?k=$KEY")},
		"not in body":        {def, post("a=$KEY", "Content-Length: 6"), post("a=$KEY", "Content-Length: 6")},
		"header keeps length": {
			def, post("a", "Content-Length: 1", "X: $KEY"), post("a", "Content-Length: 1", "X: "+sesame),
		},
		"query":         {only(Injection{QueryParams: true}), get("/$KEY?a=$KEY&b", "X: $KEY"), get("/$KEY?a=s3same%2F%2B%3D&b", "X: $KEY")},
		"query encoded": {only(Injection{QueryParams: true}), get("/?a=%24KEY"), get("/?a=s3same%2F%2B%3D")},
		"basic": {
			only(Injection{BasicAuth: true}), get("/", "authorization: Basic "+basicOf("u:$KEY")), get("/", "authorization: Basic "+basicOf("u:"+sesame)),
		},
		"bearer is not basic": {only(Injection{BasicAuth: true}), get("/", "Authorization: Bearer $KEY"), get("/", "Authorization: Bearer $KEY")},
		"basic, other form":   {only(Injection{BasicAuth: true}), get("/", "Authorization:basic "+strings.TrimRight(basicOf("uu:$KEY"), "=")), get("/", "Authorization:Basic "+basicOf("uu:"+sesame))},
		"basic is off":        {only(Injection{Headers: true}), get("/", "Authorization: Basic "+basicOf("u:$KEY")), get("/", "Authorization: Basic "+basicOf("u:$KEY"))},
		"all off":             {only(Injection{}), get("/?$KEY", "A: $KEY"), get("/?$KEY", "A: $KEY")},
		"body":                {only(all), post("a=$KEY&b", "Content-Length: 8"), post("a="+sesame+"&b", "Content-Length: 13")},
		"body without any":    {only(all), post("", "X: y"), post("", "X: y")},
		"binary body":         {only(all), post("\x00\xff$KEY\xfe", "content-length:7"), post("\x00\xff"+sesame+"\xfe", "content-length: 12")},
		"gzip body":           {only(all), post("\x1f\x8b\x08\xff", "Content-Length: 4", "Content-Encoding: gzip"), post("\x1f\x8b\x08\xff", "Content-Length: 4", "Content-Encoding: gzip")},
		"identity body":       {only(all), post("$KEY", "Content-Length: 4", "Content-Encoding: identity"), post(sesame, "Content-Length: 9", "Content-Encoding: identity")},
		"pipelined": {
			def, get("/1", "A: $KEY") + post("$KEY", "Content-Length: 4") + get("/3", "A: $KEY"),
			get("/1", "A: "+sesame) + post("$KEY", "Content-Length: 4") + get("/3", "A: "+sesame),
		},
		"body, then another": {only(all), post("$KEY", "Content-Length: 4") + get("/", "A: $KEY"), post(sesame, "Content-Length: 9") + get("/", "A: "+sesame)},
		"terminator in data": {
			def, post("b\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n", "Content-Length: 26") + get("/", "A: $KEY"),
			post("b\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n", "Content-Length: 26") + get("/", "A: "+sesame),
		},
		"terminator in a chunk": {
			def, post("7\r\n0\r\n\r\nab\r\n0\r\n\r\n", "Transfer-Encoding: chunked") + get("/", "A: $KEY"),
			post("7\r\n0\r\n\r\nab\r\n0\r\n\r\n", "Transfer-Encoding: chunked") + get("/", "A: "+sesame),
		},
		"chunks as they are": {
			def, post("2;x=y\r\n$K\r\n02\r\nEY\r\n000\r\nT: v\r\n\r\n", "Transfer-Encoding: chunked"),
			post("2;x=y\r\n$K\r\n02\r\nEY\r\n000\r\nT: v\r\n\r\n", "Transfer-Encoding: chunked"),
		},
		"absolute target":     {def, get("https://API.example.com.:443/x", "A: $KEY"), get("https://API.example.com.:443/x", "A: "+sesame)},
		"host with port":      {def, "GET / HTTP/1.1\r\nHOST:API.Example.com:8443 \r\nA: $KEY\r\n\r\n", "GET / HTTP/1.1\r\nHOST:API.Example.com:8443 \r\nA: " + sesame + "\r\n\r\n"},
		"same text, one host": {[]Secret{key(t, "other.example.com"), key(t, "api.example.com")}, get("/", "A: $KEY"), get("/", "A: "+sesame)},
		"another's name in front": {
			[]Secret{key(t, "other.example.com").named("K", "$KE", "x"), key(t, "api.example.com")}, get("/", "A: $KEY"), get("/", "A: "+sesame),
		},
		"another's absent":     {append([]Secret{key(t, "other.example.com").named("O", "$OTHER", "x")}, def...), get("/", "A: $KEY"), get("/", "A: "+sesame)},
		"upgrade":              {def, get("/", "Upgrade: websocket", "A: $KEY") + "\x81\x85abcd$KEY\xff", get("/", "Upgrade: websocket", "A: "+sesame) + "\x81\x85abcd$KEY\xff"},
		"no upgrade after all": {def, get("/", "Upgrade: h2c") + get("/", "A: $KEY"), get("/", "Upgrade: h2c") + get("/", "A: "+sesame)},
		"connect":              {def, "CONNECT api.example.com:443 HTTP/1.1\r\nHost: api.example.com\r\n\r\n" + get("/", "A: $KEY"), "CONNECT api.example.com:443 HTTP/1.1\r\nHost: api.example.com\r\n\r\n" + get("/", "A: $KEY")},
		"no HTTP":              {def, "EHLO there\r\n$KEY\r\n", "EHLO there\r\n$KEY\r\n"},
		"binary":               {def, "\x00\x01$KEY", "\x00\x01$KEY"},
		"not even a line":      {def, "QUIT", "QUIT"},
		"nothing":              {def, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for how, pieces := range map[string][]string{"at once": {c.in}, "byte by byte": singly(c.in)} {
				out, err := feed(rewriter(t, tlsConn, Action{}, c.secrets...), pieces...)
				require.NoError(t, err, how)
				assert.Equal(t, c.want, out, how)
			}
		})
	}
}

// kindOfError is "" for none, the action of a violation, or "malformed".
func kindOfError(err error) string {
	var v *Violation
	var m *Malformed
	switch {
	case errors.As(err, &v):
		return string(v.Action) + " " + v.Location + " " + v.Form
	case errors.As(err, &m):
		return "malformed"
	case err != nil:
		return err.Error()
	}
	return ""
}

func TestRefused(t *testing.T) {
	t.Parallel()
	body := key(t, "api.example.com").inject(Injection{Body: true})
	wrong := key(t, "other.example.com")
	chunked := func(s string) string { return post(s, "Transfer-Encoding: chunked") }
	lengthy := func(s, n string) string { return post(s, "Content-Length: "+n) }
	for name, c := range map[string]struct {
		secret Secret
		in     string
		want   string
	}{
		"header":           {wrong, get("/", "A: $KEY"), "block-and-log header raw"},
		"name":             {wrong, get("/", "$KEY: a"), "block-and-log header raw"},
		"path":             {wrong, get("/a$KEY"), "block-and-log unknown raw"},
		"query":            {wrong, get("/?$KEY"), "block-and-log query raw"},
		"query, percent":   {wrong, get("/?%24%4bEY"), "block-and-log query percent_decoded"},
		"body":             {wrong, lengthy("..$KEY", "6"), "block-and-log body raw"},
		"form":             {wrong, lengthy("a=%24KEY", "8"), "block-and-log body percent_decoded"},
		"JSON":             {wrong, lengthy(`"\u0024KEY"`, "11"), "block-and-log body json_unescaped"},
		"basic":            {wrong, get("/", "Authorization: Basic "+basicOf("u:$KEY")), "block-and-log authorization_basic basic_auth_decoded"},
		"proxy basic":      {wrong, get("/", "Proxy-Authorization: Basic "+basicOf("u:$KEY")), "block-and-log authorization_basic basic_auth_decoded"},
		"second request":   {wrong, get("/") + lengthy("ab", "2") + get("/", "A: $KEY"), "block-and-log header raw"},
		"chunk":            {wrong, chunked("4\r\n$KEY\r\n0\r\n\r\n"), "block-and-log body raw"},
		"across chunks":    {wrong, chunked("2\r\n$K\r\n2\r\nEY\r\n0\r\n\r\n"), "block-and-log body raw"},
		"percent, chunks":  {wrong, chunked("2\r\n%2\r\n4\r\n4KEY\r\n0\r\n\r\n"), "block-and-log body percent_decoded"},
		"extension":        {wrong, chunked("1;a=$KEY\r\n.\r\n0\r\n\r\n"), "block-and-log unknown raw"},
		"trailer":          {wrong, chunked("0\r\nA: $KEY\r\n\r\n"), "block-and-log header raw"},
		"no HTTP":          {wrong, "\x00\x01$KEY", "block-and-log unknown raw"},
		"after upgrade":    {wrong, get("/", "Upgrade: websocket") + "\x82\x04$KEY", "block-and-log unknown raw"},
		"gzip":             {wrong, post("\x1f\x8b$KEY", "Content-Length: 6", "Content-Encoding: gzip"), "block-and-log body raw"},
		"silent":           {wrong.on(KindBlock), get("/", "A: $KEY"), "block header raw"},
		"end":              {wrong.on(KindTerminate), get("/", "A: $KEY"), "block-and-terminate header raw"},
		"passed elsewhere": {wrong.on(KindPassthrough, hosts(t, "c.example.com")...), get("/", "A: $KEY"), "block-and-log header raw"},

		"body in gzip":       {body, post("$KEY", "Content-Length: 4", "Content-Encoding: gzip"), "malformed"},
		"large body":         {body, lengthy("", "16777217"), "malformed"},
		"host":               {body, "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", "malformed"},
		"no host":            {body, "GET / HTTP/1.1\r\nA: b\r\n\r\n", "malformed"},
		"two hosts":          {body, get("/", "Host: api.example.com"), "malformed"},
		"absolute target":    {body, get("https://evil.example/"), "malformed"},
		"user in target":     {body, get("https://api.example.com@evil.example/"), "malformed"},
		"user of host":       {body, get("https://u@api.example.com/"), "malformed"},
		"scheme":             {body, get("ftp://api.example.com/"), "malformed"},
		"no target":          {body, get("api.example.com"), "malformed"},
		"connect":            {body, "CONNECT evil.example:443 HTTP/1.1\r\nHost: api.example.com\r\n\r\n", "malformed"},
		"request line":       {body, "GET / now HTTP/1.1\r\n\r\n", "malformed"},
		"no version":         {body, "GET /\r\n\r\n", "malformed"},
		"version":            {body, "GET / HTTP/2.0\r\n\r\n", "malformed"},
		"blank first":        {body, "\r\n" + get("/"), "malformed"},
		"blank between":      {body, get("/") + "\r\n" + get("/"), "malformed"},
		"junk between":       {body, get("/") + "\x00\x01", "malformed"},
		"space before colon": {body, get("/", "A : b"), "malformed"},
		"folded":             {body, get("/", "A: b", " c"), "malformed"},
		"bare LF":            {body, get("/", "A: b\nHost: evil.example"), "malformed"},
		"bare LF first":      {body, strings.ReplaceAll(get("/"), "\r\n", "\n"), "malformed"},
		"bare LF between":    {body, get("/", "Upgrade: x") + strings.ReplaceAll(get("/"), "\r\n", "\n"), "malformed"},
		"bare CR":            {body, get("/", "A: b\rc"), "malformed"},
		"NUL":                {body, get("/", "A: b\x00c"), "malformed"},
		"no UTF-8":           {body, get("/", "A: \xff"), "malformed"},
		"head too long":      {body, get("/", "A: "+strings.Repeat("x", maxHead)), "malformed"},
		"both framings":      {body, post("", "Content-Length: 4", "Transfer-Encoding: chunked"), "malformed"},
		"coding chain":       {body, post("", "Transfer-Encoding: gzip, chunked"), "malformed"},
		"two codings":        {body, post("", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), "malformed"},
		"coding of 1.0":      {body, "POST / HTTP/1.0\r\nHost: api.example.com\r\nTransfer-Encoding: chunked\r\n\r\n", "malformed"},
		"length":             {body, lengthy("", "-1"), "malformed"},
		"plus":               {body, lengthy("", "+1"), "malformed"},
		"list of lengths":    {body, lengthy("", "1, 1"), "malformed"},
		"two lengths":        {body, post("ab", "Content-Length: 1", "Content-Length: 2"), "malformed"},
		"size of chunk":      {body, chunked("x\r\n"), "malformed"},
		"no size":            {body, chunked("\r\n"), "malformed"},
		"huge chunk":         {body, chunked("fffffffffffffffff\r\n"), "malformed"},
		"long size line":     {body, chunked("1;" + strings.Repeat("x", maxSizeLine)), "malformed"},
		"chunk too short":    {body, chunked("2\r\nabc\r\n0\r\n\r\n"), "malformed"},
		"host in trailer":    {body, chunked("0\r\nHost: evil\r\n\r\n"), "malformed"},
		"bare LF in size":    {body, chunked("1\n;\r\na\r\n"), "malformed"},
		"half a body":        {body, lengthy("ab", "3"), "malformed"},
		"half a head":        {body, get("/") + "GET", "malformed"},
		"half a chunk":       {body, chunked("2\r\na"), "malformed"},
		"value in header":    {key(t, "*").named("KEY", "$KEY", "a\r\nb: c"), get("/", "A: $KEY"), "malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for how, pieces := range map[string][]string{"at once": {c.in}, "byte by byte": singly(c.in)} {
				out, err := feed(rewriter(t, tlsConn, Action{}, c.secret), pieces...)
				assert.Equal(t, c.want, kindOfError(err), how)
				assert.NotContains(t, out, sesame)
			}
		})
	}
}

func TestNothingLeavesWithAViolation(t *testing.T) {
	t.Parallel()
	rw := rewriter(t, tlsConn, Action{}, key(t, "other.example.com"))
	out, err := rw.Rewrite(nil, []byte(get("/", "A: $KEY")))
	require.Error(t, err)
	assert.Empty(t, out)
	_, again := rw.Rewrite(nil, []byte(get("/")))
	assert.Equal(t, err, again, "the connection is over")
	_, again = rw.End(nil)
	assert.Equal(t, err, again)
}

func TestErrorsAreShort(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 32<<10)
	for _, in := range []string{post("", "Transfer-Encoding: "+long), get("/"+long, "A: $KEY")} {
		_, err := feed(rewriter(t, tlsConn, Action{}, key(t, "other.example.com")), in)
		require.Error(t, err)
		assert.Less(t, len(fmt.Sprintf("%v %+v", err, err)), 3*maxText)
	}
}

func TestViolationSaysWhere(t *testing.T) {
	t.Parallel()
	_, err := feed(rewriter(t, tlsConn, Action{}, key(t, "other.example.com")), "PUT https://api.example.com/a/b?c=$KEY HTTP/1.1\r\nHost: api.example.com\r\n\r\n")
	assert.Equal(t, &Violation{
		Action: KindLog, EnvVar: "KEY", Placeholder: "$KEY", Protocol: "http/1.1", SNI: "api.example.com", Host: "api.example.com",
		Method: "PUT", Path: "/a/b", Location: "query", Form: "raw", Dst: api,
	}, err)
	attrs := map[string]string{}
	for _, a := range err.(*Violation).LogValue().Group() {
		attrs[a.Key] = a.Value.String()
	}
	assert.Equal(t, map[string]string{
		"action": "block-and-log", "secret_env_var": "KEY", "placeholder": "$KEY", "protocol": "http/1.1", "sni": "api.example.com", "host": "api.example.com",
		"method": "PUT", "path": "/a/b", "location": "query", "match_form": "raw", "guest_dst": "203.0.113.7:443",
	}, attrs)
}

func TestStrictestActionWins(t *testing.T) {
	t.Parallel()
	list := []Secret{
		key(t, "b.example.com").named("A", "$A", "x").on(KindBlock), key(t, "b.example.com").named("T", "$T", "x").on(KindTerminate),
		key(t, "b.example.com").named("L", "$L", "x").on(KindLog),
	}
	_, err := feed(rewriter(t, tlsConn, Action{}, list...), get("/$A?$L", "X: $A", "Y: $T", "Z: $L"))
	assert.Equal(t, "block-and-terminate header raw", kindOfError(err))
}

func TestChunkedSubstitution(t *testing.T) {
	t.Parallel()
	s := key(t, "api.example.com").inject(Injection{Body: true})
	in := post("3\r\na=$\r\n5;e=f\r\nKEY&$\r\n3\r\nKEx\r\n0\r\nT: $KEY\r\n\r\n", "Transfer-Encoding: chunked")
	for how, pieces := range map[string][]string{"at once": {in + get("/")}, "byte by byte": singly(in + get("/"))} {
		out, err := feed(rewriter(t, tlsConn, Action{}, s), pieces...)
		require.NoError(t, err, how)
		head, body, _ := strings.Cut(out, "\r\n\r\n")
		assert.Equal(t, strings.TrimSuffix(post("", "Transfer-Encoding: chunked"), "\r\n\r\n"), head, how)
		data, rest := unchunk(t, body)
		assert.Equal(t, "a="+sesame+"&$KEx", data, how)
		assert.Equal(t, "T: $KEY\r\n\r\n"+get("/"), rest, how)
	}
}

// A body may end with a placeholder that begins a longer one.
func TestChunkedEndsWithPrefix(t *testing.T) {
	t.Parallel()
	list := []Secret{key(t, "api.example.com").inject(Injection{Body: true}), key(t, "other.example.com").named("KEY_2", "$KEY_2", "x")}
	in := post("6\r\na=$KEY\r\n0\r\n\r\n", "Transfer-Encoding: chunked")
	for how, pieces := range map[string][]string{"at once": {in}, "byte by byte": singly(in)} {
		out, err := feed(rewriter(t, tlsConn, Action{}, list...), pieces...)
		require.NoError(t, err, how)
		_, body, _ := strings.Cut(out, "\r\n\r\n")
		data, _ := unchunk(t, body)
		assert.Equal(t, "a="+sesame, data, how)
	}
}

// unchunk reads a chunked body up to its trailer section.
func unchunk(t *testing.T, s string) (data, rest string) {
	t.Helper()
	for {
		line, after, ok := strings.Cut(s, "\r\n")
		require.True(t, ok, "%q", s)
		n := 0
		for _, c := range []byte(line) {
			require.True(t, isHex(c), "%q", line)
			n = n<<4 | int(unhex(c))
		}
		if n == 0 {
			return data, after
		}
		data += after[:n]
		require.Equal(t, "\r\n", after[n:n+2])
		s = after[n+2:]
	}
}

func TestEligible(t *testing.T) {
	t.Parallel()
	at := func(host string, dst netip.AddrPort) Connection {
		return Connection{Host: host, Dst: dst, Intercepted: true}
	}
	for name, c := range map[string]struct {
		allowed string
		conn    Connection
		want    string // "" is substituted
	}{
		"pinned":                    {"api.example.com", tlsConn, ""},
		"case":                      {"API.Example.Com", tlsConn, ""},
		"wildcard":                  {"*.example.com", tlsConn, ""},
		"wildcard, not a label":     {"*.ample.com", tlsConn, "block-and-log header raw"},
		"not resolved":              {"api.example.com", at("api.example.com", elsewhere), "block-and-log header raw"},
		"any, not resolved":         {"*", at("api.example.com", elsewhere), ""},
		"resolved for another":      {"other.example.com", at("other.example.com", api), "block-and-log header raw"},
		"mapped address":            {"api.example.com", at("api.example.com", netip.MustParseAddrPort("[::ffff:203.0.113.7]:443")), ""},
		"tunnel":                    {"api.example.com", Connection{Host: "api.example.com", Dst: elsewhere, Intercepted: true, Tunnel: true}, ""},
		"tunnel to another":         {"other.example.com", Connection{Host: "api.example.com", Dst: elsewhere, Intercepted: true, Tunnel: true}, "block-and-log header raw"},
		"alias":                     {"host.internal", at("host.internal", gateway), ""},
		"alias elsewhere":           {"host.internal", at("host.internal", api), "block-and-log header raw"},
		"alias that is not allowed": {"api.example.com", at("host.internal", gateway), "block-and-log header raw"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := feed(rewriter(t, c.conn, Action{}, key(t, c.allowed)), "GET / HTTP/1.1\r\nHost: "+c.conn.Host+"\r\nA: $KEY\r\n\r\n")
			assert.Equal(t, c.want, kindOfError(err))
			assert.Equal(t, c.want == "", strings.Contains(out, sesame))
		})
	}
}

func TestPassthrough(t *testing.T) {
	t.Parallel()
	here, there := hosts(t, "api.example.com"), hosts(t, "there.example.com")
	request := get("/", "A: $KEY")
	for name, c := range map[string]struct {
		all  Action
		own  *Action
		want string
	}{
		"for all":               {Action{KindPassthrough, here}, nil, ""},
		"of the secret":         {Action{}, &Action{KindPassthrough, here}, ""},
		"any host":              {Action{KindPassthrough, []HostPattern{AnyHost()}}, nil, ""},
		"elsewhere":             {Action{KindPassthrough, there}, nil, "block-and-log header raw"},
		"secret elsewhere":      {Action{Kind: KindTerminate}, &Action{KindPassthrough, there}, "block-and-terminate header raw"},
		"both":                  {Action{KindPassthrough, here}, &Action{KindPassthrough, there}, ""},
		"secret is stricter":    {Action{KindPassthrough, here}, &Action{Kind: KindBlock}, "block header raw"},
		"another secret blocks": {Action{KindPassthrough, here}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := key(t, "other.example.com")
			s.OnViolation = c.own
			blocked := key(t, "other.example.com").named("B", "$B", "x").on(KindBlock) // so that there is something to look for
			out, err := feed(rewriter(t, tlsConn, c.all, s, blocked), request)
			require.Equal(t, c.want, kindOfError(err))
			if c.want == "" {
				assert.Equal(t, request, out)
			}
		})
	}
}

func TestNothingToDoIsNoRewriter(t *testing.T) {
	t.Parallel()
	assert.Nil(t, rewriter(t, tlsConn, Action{}))
	assert.Nil(t, rewriter(t, tlsConn, Action{KindPassthrough, hosts(t, "*")}, key(t, "other.example.com")))
	assert.NotNil(t, rewriter(t, tlsConn, Action{}, key(t, "other.example.com")))
}

func TestPlainHTTP(t *testing.T) {
	t.Parallel()
	plain := Connection{Dst: netip.AddrPortFrom(api.Addr(), 80)}
	for name, c := range map[string]struct {
		secrets []Secret
		dst     netip.AddrPort
		in      string
		want    string // what is sent, or the kind of error
	}{
		"opted in":     {[]Secret{key(t, "api.example.com").optIn()}, plain.Dst, get("/", "A: $KEY"), get("/", "A: "+sesame)},
		"not opted in": {[]Secret{key(t, "api.example.com")}, plain.Dst, get("/", "A: $KEY"), get("/", "A: $KEY")},
		"wrong host":   {[]Secret{key(t, "other.example.com").optIn()}, plain.Dst, get("/", "A: $KEY"), "block-and-log header raw"},
		"not resolved": {[]Secret{key(t, "api.example.com").optIn()}, elsewhere, get("/", "A: $KEY"), "block-and-log header raw"},
		"no host":      {[]Secret{key(t, "api.example.com").optIn()}, plain.Dst, "GET / HTTP/1.0\r\nA: $KEY\r\n\r\n", "block-and-log header raw"},
		"no host, no placeholder": {
			[]Secret{key(t, "api.example.com").optIn()}, plain.Dst, "GET / HTTP/1.0\r\nA: b\r\n\r\n", "GET / HTTP/1.0\r\nA: b\r\n\r\n",
		},
		"no host, any":      {[]Secret{key(t, "*").optIn()}, elsewhere, "GET / HTTP/1.0\r\nA: $KEY\r\n\r\n", "GET / HTTP/1.0\r\nA: " + sesame + "\r\n\r\n"},
		"no host, some any": {[]Secret{key(t, "*").optIn(), key(t, "api.example.com").named("O", "$O", "x")}, elsewhere, "GET / HTTP/1.0\r\nA: $KEY\r\n\r\n", "block-and-log header raw"},
		"two hosts":         {[]Secret{key(t, "api.example.com").optIn()}, plain.Dst, get("/", "Host: api.example.com", "A: $KEY"), "block-and-log header raw"},
		"another host then": {[]Secret{key(t, "api.example.com").optIn()}, plain.Dst, get("/") + "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", "malformed"},
		"TLS":               {[]Secret{key(t, "other.example.com")}, plain.Dst, "\x16\x03\x01$KEY", "\x16\x03\x01$KEY"},
		"no HTTP":           {[]Secret{key(t, "api.example.com").optIn()}, plain.Dst, "hello, $KEY", "block-and-log unknown raw"},
		"no HTTP, any":      {[]Secret{key(t, "*").optIn()}, plain.Dst, "hello, $KEY\n", "hello, $KEY\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for how, pieces := range map[string][]string{"at once": {c.in}, "byte by byte": singly(c.in)} {
				out, err := feed(rewriter(t, Connection{Dst: c.dst}, Action{}, c.secrets...), pieces...)
				if err != nil {
					out = kindOfError(err)
				}
				assert.Equal(t, c.want, out, how)
			}
		})
	}
}

func TestConnectHead(t *testing.T) {
	t.Parallel()
	conn := Connection{Host: "api.example.com", Dst: elsewhere, Connect: true}
	head := func(lines ...string) string {
		return "CONNECT api.example.com:443 HTTP/1.1\r\n" + strings.Join(append(lines, "", ""), "\r\n")
	}
	for name, c := range map[string]struct {
		secret Secret
		in     string
		want   string
	}{
		"safe":         {key(t, "api.example.com"), head("Host: proxy:3128", "A: b"), ""},
		"header":       {key(t, "api.example.com"), head("A: $KEY"), "block-and-log header raw"},
		"any host":     {key(t, "*").on(KindTerminate), head("A: $KEY"), "block-and-terminate header raw"},
		"request line": {key(t, "api.example.com"), "CONNECT $KEY:443 HTTP/1.1\r\n\r\n", "block-and-log unknown raw"},
		"basic":        {key(t, "api.example.com"), head("Proxy-Authorization: Basic " + basicOf("u:$KEY")), "block-and-log authorization_basic basic_auth_decoded"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := feed(rewriter(t, conn, Action{}, c.secret), c.in)
			assert.Equal(t, c.want, kindOfError(err))
			if c.want == "" {
				assert.Equal(t, c.in, out)
			}
		})
	}
	assert.Nil(t, rewriter(t, conn, Action{KindPassthrough, hosts(t, "api.example.com")}, key(t, "other.example.com")), "passed on")
}

func TestBodiesAreBounded(t *testing.T) {
	t.Parallel()
	s, err := NewStore(Config{Secrets: []Secret{key(t, "*").inject(Injection{Body: true})}}, testWhere())
	require.NoError(t, err)
	s.bodies.Store(maxBodies - 10)
	first := s.Rewriter(tlsConn)
	_, err = first.Rewrite(nil, []byte(post("123456789", "Content-Length: 20")))
	require.NoError(t, err)
	second := s.Rewriter(tlsConn)
	_, err = second.Rewrite(nil, []byte(post("1234", "Content-Length: 20")))
	assert.Equal(t, "malformed", kindOfError(err))
	first.Close()
	first.Close()
	second.Close()
	assert.EqualValues(t, maxBodies-10, s.bodies.Load(), "all is given back")
}

func TestGrowthIsBounded(t *testing.T) {
	t.Parallel()
	s := key(t, "*").inject(Injection{Body: true}).named("K", "$", strings.Repeat("v", 64<<10))
	_, err := feed(rewriter(t, tlsConn, Action{}, s), post(strings.Repeat("$", 1<<20), "Content-Length: 1048576"))
	assert.Equal(t, "malformed", kindOfError(err))

	s = key(t, "*").named("K", "$", strings.Repeat("v", 64<<10)) // each field grows less than a head may
	_, err = feed(rewriter(t, tlsConn, Action{}, s), get("/", strings.Repeat("a:$\r\n", 800)+"b: c"))
	assert.Equal(t, "malformed", kindOfError(err))
	c := newClient()
	c.open(1, true, c.request("/")+strings.Repeat(c.fields("a", "$"), 800))
	_, err = feed(rewriter(t, tlsConn, Action{}, s), c.String())
	assert.Equal(t, "malformed", kindOfError(err))
}

func TestUpdate(t *testing.T) {
	t.Parallel()
	s, err := NewStore(Config{Secrets: []Secret{key(t, "api.example.com")}}, testWhere())
	require.NoError(t, err)
	request := get("/", "A: $KEY")
	before := s.Rewriter(tlsConn)
	require.NoError(t, s.Update(Change{Kind: Rotate, Name: "KEY", Value: NewValue("new")}))
	out, err := feed(before, request)
	require.NoError(t, err)
	assert.Contains(t, out, "A: "+sesame, "an old connection keeps what it has")
	out, err = feed(s.Rewriter(tlsConn), request)
	require.NoError(t, err)
	assert.Contains(t, out, "A: new")

	require.ErrorIs(t, s.Update(Change{Kind: Rotate, Name: "NONE", Value: NewValue("x")}), ErrInvalid)
	require.ErrorIs(t, s.Update(Change{Kind: SetHosts, Name: "KEY"}), ErrInvalid, "no hosts")
	require.ErrorIs(t, s.Update(Change{Kind: "other", Name: "KEY"}), ErrInvalid)
	require.ErrorIs(t, s.Update(Change{Kind: Remove, Name: "KEY"}, Change{Kind: Rotate, Name: "KEY"}), ErrInvalid)
	out, err = feed(s.Rewriter(tlsConn), request)
	require.NoError(t, err)
	assert.Contains(t, out, "A: new", "all or nothing")

	require.NoError(t, s.Update(Change{Kind: SetHosts, Name: "KEY", Hosts: hosts(t, "b.example.com")}))
	_, err = feed(s.Rewriter(tlsConn), request)
	assert.Equal(t, "block-and-log header raw", kindOfError(err))

	require.NoError(t, s.Update(Change{Kind: Remove, Name: "KEY"}, Change{Kind: Remove, Name: "KEY"}), "removing is idempotent")
	assert.Nil(t, s.Rewriter(tlsConn))
}
