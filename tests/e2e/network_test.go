//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"

	msb "github.com/gomsb/gomsb/sdk"
)

// networkEnv says that this process is the suite in a network name space of its own.
const networkEnv = "E2E_NETWORK"

// Addresses of the world that the name space holds, all on its loopback.
const (
	world4    = "93.184.216.34"
	world6    = "2606:2800:220:1::34"
	private4  = "10.9.0.1"
	metadata4 = "169.254.169.254"
)

// TestNetwork is about sandboxes in a small Internet: a network name space whose loopback
// has addresses of all kinds, with servers on them.
func TestNetwork(t *testing.T) {
	if !inNameSpace(t) {
		return
	}
	w := newWorld(t)
	t.Run("Default", w.testDefault)
	t.Run("Policies", w.testPolicies)
	t.Run("Ports", w.testPorts)
	t.Run("Ways", w.testWays)
	t.Run("Closed", w.testClosed)
	t.Run("Official", w.testOfficial)
}

// inNameSpace says whether this process has a network name space of its own. If not, it
// runs the test in one that has.
func inNameSpace(t *testing.T) bool {
	t.Helper()
	if os.Getenv(networkEnv) != "" {
		return true
	}
	self, err := os.Executable()
	require.NoError(t, err)
	pattern := "^" + t.Name() + "$"
	if _, parts, some := strings.Cut(flag.Lookup("test.run").Value.String(), "/"); some {
		pattern += "/" + parts
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run", pattern, "-test.v")
	cmd.Env = append(os.Environ(), networkEnv+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	require.NoError(t, cmd.Run())
	return false
}

// world is the Internet of this name space.
type world struct {
	web      uint16 // port of the web server on all addresses
	loopback uint16 // of the one on 127.0.0.1
	body     []byte // what /body is
	site     *http.ServeMux
	answer   func(query []byte) []byte // of its name server
}

func newWorld(t *testing.T) *world {
	for _, args := range []string{
		"link set lo up", "addr add " + world4 + "/32 dev lo", "addr add " + private4 + "/32 dev lo", "addr add " + metadata4 + "/32 dev lo",
		"route add default dev lo", "-6 addr add " + world6 + "/128 dev lo", "-6 route add default dev lo",
	} {
		out, err := exec.CommandContext(t.Context(), "busybox", append([]string{"ip"}, strings.Fields(args)...)...).CombinedOutput()
		require.NoError(t, err, "%s: %s", args, out)
	}
	w := &world{body: bytes.Repeat([]byte("0123456789abcdef"), 1<<16), site: http.NewServeMux()}
	w.site.HandleFunc("GET /body", func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write(w.body) })
	w.site.HandleFunc("POST /sum", func(rw http.ResponseWriter, r *http.Request) {
		h := sha256.New()
		_, _ = io.Copy(h, r.Body)
		fmt.Fprintln(rw, hex.EncodeToString(h.Sum(nil)))
	})
	w.site.HandleFunc("GET /", func(rw http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.Context().Value(http.LocalAddrContextKey).(net.Addr).String())
		fmt.Fprintf(rw, "hello from %s as %s\n", host, r.Host)
	})
	w.web = serveHTTP(t, w.site, ":0")
	w.loopback = serveHTTP(t, w.site, "127.0.0.1:0")
	for _, a := range []string{world4, world6, private4} {
		serveEcho(t, a, "7")
	}
	w.answer = serveNames(t)
	return w
}

func serveHTTP(t *testing.T, h http.Handler, addr string) uint16 {
	l, err := net.Listen("tcp", addr)
	require.NoError(t, err)
	s := &http.Server{Handler: h}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
	return l.Addr().(*net.TCPAddr).AddrPort().Port()
}

// serveEcho sends datagrams to a port of an address back.
func serveEcho(t *testing.T, addr, port string) {
	c, err := net.ListenPacket("udp", net.JoinHostPort(addr, port))
	require.NoError(t, err)
	go func() {
		b := make([]byte, 1<<16)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = c.WriteTo(b[:n], from)
		}
	}()
	t.Cleanup(func() { _ = c.Close() })
}

// serveNames is a name server on port 53 of the host's loopback and of the world. It
// returns what answers queries.
func serveNames(t *testing.T) func([]byte) []byte {
	a := func(s string) dnsmessage.ResourceBody {
		return &dnsmessage.AResource{A: netip.MustParseAddr(s).As4()}
	}
	aaaa := func(s string) dnsmessage.ResourceBody {
		return &dnsmessage.AAAAResource{AAAA: netip.MustParseAddr(s).As16()}
	}
	zone := map[string][]dnsmessage.ResourceBody{
		"www.good.test.": {a(world4), aaaa(world6)},
		"v4.good.test.":  {a(world4)},
		"v6.good.test.":  {aaaa(world6)},
		"bad.test.":      {a(world4)},
		"hidden.test.":   {a(hidden4)},
		"rebind.test.":   {a(private4)},
	}
	answer := func(m []byte) []byte {
		var q dnsmessage.Message
		if q.Unpack(m) != nil || len(q.Questions) != 1 {
			return nil
		}
		name := q.Questions[0].Name
		r := dnsmessage.Message{Header: dnsmessage.Header{ID: q.ID, Response: true, RecursionAvailable: true}, Questions: q.Questions}
		bodies, known := zone[strings.ToLower(name.String())]
		if !known {
			r.RCode = dnsmessage.RCodeNameError
		}
		for _, b := range bodies {
			_, v4 := b.(*dnsmessage.AResource)
			if (q.Questions[0].Type == dnsmessage.TypeA) == v4 {
				r.Answers = append(r.Answers, dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: name, Class: dnsmessage.ClassINET, TTL: 300}, Body: b})
			}
		}
		b, _ := r.Pack()
		return b
	}
	for _, addr := range []string{"127.0.0.1:53", world4 + ":53"} {
		serveTCP(t, addr, func(c net.Conn) {
			for {
				var n [2]byte
				if _, err := io.ReadFull(c, n[:]); err != nil {
					return
				}
				q := make([]byte, binary.BigEndian.Uint16(n[:]))
				if _, err := io.ReadFull(c, q); err != nil {
					return
				}
				r := answer(q)
				_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(r))), r...))
			}
		})
		c, err := net.ListenPacket("udp", addr)
		require.NoError(t, err)
		go func() {
			b := make([]byte, 1<<16)
			for {
				n, from, err := c.ReadFrom(b)
				if err != nil {
					return
				}
				if r := answer(b[:n]); r != nil {
					_, _ = c.WriteTo(r, from)
				}
			}
		}()
		t.Cleanup(func() { _ = c.Close() })
	}
	return answer
}

// long is how long one step may take: guests compute a lot here, and other work may be
// going on.
const long = 4 * patience

// sandbox creates one of Debian whose names come from the world's server.
func (w *world) sandbox(t *testing.T, n *msb.NetworkConfig, opts ...msb.SandboxOption) *msb.Sandbox {
	t.Helper()
	n.DNS = &msb.DNSConfig{Nameservers: []string{"127.0.0.1"}}
	sb, err := msb.CreateSandbox(within(t, long), newName(t), append([]msb.SandboxOption{msb.WithImage("debian"), msb.WithNetwork(n)}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(func() { _ = sb.Kill(context.Background()) })
	return sb
}

// run is the output of a script in the guest, without the last newline, and whether it
// succeeded.
func (w *world) run(t *testing.T, sb *msb.Sandbox, script string) (string, bool) {
	t.Helper()
	out, err := sb.Shell(within(t, long), script)
	require.NoError(t, err, script)
	return strings.TrimSuffix(out.Stdout()+out.Stderr(), "\n"), out.Success()
}

func (w *world) succeeds(t *testing.T, sb *msb.Sandbox, script string) string {
	t.Helper()
	out, ok := w.run(t, sb, script)
	require.True(t, ok, "%s: %s", script, out)
	return out
}

func (w *world) fails(t *testing.T, sb *msb.Sandbox, script string) string {
	t.Helper()
	out, ok := w.run(t, sb, script)
	assert.False(t, ok, "%s: %s", script, out)
	return out
}

func (w *world) url(host string) string {
	return "http://" + net.JoinHostPort(host, strconv.Itoa(int(w.web)))
}

// datagram is a program for the guest that sends the bytes of its third argument to a host
// and port and prints what comes back.
const datagram = `
import socket, sys
f = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
s = socket.socket(f, socket.SOCK_DGRAM); s.settimeout(float(sys.argv[4]))
data = b"x" * int(sys.argv[3])
s.sendto(data, (sys.argv[1], int(sys.argv[2])))
try:
    print("same" if s.recv(65535) == data else "other")
except TimeoutError:
    print("silence")
`

func (w *world) datagram(t *testing.T, sb *msb.Sandbox, host string, port, size int, wait string) string {
	t.Helper()
	return w.succeeds(t, sb, fmt.Sprintf("python3 -c '%s' %s %d %d %s", datagram, host, port, size, wait))
}

func (w *world) testDefault(t *testing.T) {
	sb := w.sandbox(t, &msb.NetworkConfig{})
	text := w.succeeds(t, sb, "ip -o addr show eth0; ip route; ip -6 route; cat /etc/resolv.conf /etc/hosts; cat /sys/class/net/eth0/address /sys/class/net/eth0/mtu; ethtool -k eth0 2>/dev/null; true")
	for _, want := range []string{"inet 172.", "/30 ", "inet6 fd42:6d73:62:", "/64 ", "default via 172.", "default via fd42:", "nameserver 172.", "nameserver fd42:", "\thost.microsandbox.internal", "02:6d:73:", "\n1500"} {
		assert.Contains(t, text, want)
	}
	assert.NotContains(t, text, "global tentative", "the address is usable at once")

	get := "curl -sS --max-time 200 "
	assert.Equal(t, "hello from "+world4+" as "+world4+":"+strconv.Itoa(int(w.web)), w.succeeds(t, sb, get+w.url(world4)))
	assert.Contains(t, w.succeeds(t, sb, get+"-g "+w.url(world6)), "hello from "+world6)
	assert.Contains(t, w.succeeds(t, sb, get+"-4 "+w.url("www.good.test")), "hello from "+world4+" as www.good.test")
	assert.Contains(t, w.succeeds(t, sb, get+"-6 "+w.url("www.good.test")), "hello from "+world6+" as www.good.test")
	sum := sha256.Sum256(w.body)
	assert.Equal(t, hex.EncodeToString(sum[:]), strings.Fields(w.succeeds(t, sb, get+w.url(world4)+"/body | tee /tmp/body | sha256sum"))[0], "down")
	assert.Equal(t, hex.EncodeToString(sum[:]), w.succeeds(t, sb, get+"--data-binary @/tmp/body "+w.url(world4)+"/sum"), "up")

	for _, size := range []int{0, 1000, 9000} {
		assert.Equal(t, "same", w.datagram(t, sb, world4, 7, size, "200"), "%d bytes", size)
	}
	assert.Equal(t, "same", w.datagram(t, sb, world6, 7, 3000, "200"))
	assert.Equal(t, "silence", w.datagram(t, sb, private4, 7, 10, "0.5"), "denied")

	gateway := w.succeeds(t, sb, "ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p'")
	for what, url := range map[string]string{
		"private": w.url(private4), "metadata": w.url(metadata4), "the host": "http://" + net.JoinHostPort(gateway, strconv.Itoa(int(w.loopback))),
		"nobody listens": "http://" + world4 + ":1/", "DNS over TLS": "http://" + world4 + ":853/",
	} {
		assert.Contains(t, w.fails(t, sb, get+url+" 2>&1"), "Couldn't connect", what)
	}
	assert.NotContains(t, w.fails(t, sb, "ping -c 1 -W 1 "+gateway), "1 received", "a ping of the gateway is not in the default policy")

	lookup := func(name string) string {
		return w.succeeds(t, sb, "python3 -c 'import socket; print(socket.gethostbyname(\""+name+"\"))' 2>&1 | tail -1; true")
	}
	assert.Equal(t, world4, lookup("www.good.test"))
	assert.Contains(t, lookup("rebind.test"), "Name or service not known")
	assert.Contains(t, lookup("unknown.test"), "Name or service not known")
	assert.Equal(t, gateway, lookup("host.microsandbox.internal"))

	connections := `import socket
for i in range(200):
    s = socket.create_connection(("` + world4 + `", ` + strconv.Itoa(int(w.web)) + `)); s.close()
print("all")`
	assert.Equal(t, "all", w.succeeds(t, sb, "python3 -c '"+connections+"'"), "short connections leave nothing behind")
	w.testPathMTU(t, sb)
}

func (w *world) testPolicies(t *testing.T) {
	rules, err := msb.ParsePolicyRules("deny@bad.test,allow@host:tcp:" + strconv.Itoa(int(w.loopback)) + ",allow@host:icmpv4,allow@*.good.test,allow@dns,allow@private:udp")
	require.NoError(t, err)
	limits := &msb.NetworkRateLimiterConfig{
		Egress:  &msb.RateLimiterConfig{Bandwidth: &msb.TokenBucketConfig{Size: 1 << 20, RefillTime: 100 * time.Millisecond}},
		Ingress: &msb.RateLimiterConfig{Ops: &msb.TokenBucketConfig{Size: 100, RefillTime: 100 * time.Millisecond}},
	}
	yes, socket := true, t.TempDir()+"/socket"
	l, err := net.Listen("unix", socket)
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(c, c)
			_ = c.Close()
		}
	}()
	sb := w.sandbox(t, &msb.NetworkConfig{Rules: rules, RateLimiter: limits, TrustHostCAs: &yes}, msb.WithVsock(msb.VsockRoute{HostSocket: socket, Port: 5000}))
	assert.Equal(t, "through the socket", w.succeeds(t, sb, `python3 -c 'import socket; s = socket.socket(socket.AF_VSOCK); s.connect((2, 5000)); s.sendall(b"through the socket"); s.shutdown(1); print(s.makefile().read())'`))
	assert.Contains(t, w.succeeds(t, sb, "cat /.msb/tls/host-cas.pem"), "BEGIN CERTIFICATE")
	get := "curl -4 -sS --max-time 200 "
	assert.Contains(t, w.fails(t, sb, get+w.url(world4)+" 2>&1"), "Couldn't connect", "no name leads there yet")
	assert.Contains(t, w.succeeds(t, sb, get+w.url("www.good.test")), "hello from "+world4)
	assert.Contains(t, w.succeeds(t, sb, get+w.url(world4)), "hello from "+world4, "now one does")
	assert.Contains(t, w.fails(t, sb, get+w.url("bad.test")+" 2>&1"), "Could not resolve host")
	assert.Contains(t, w.succeeds(t, sb, get+"http://host.microsandbox.internal:"+strconv.Itoa(int(w.loopback))), "hello from 127.0.0.1")
	assert.Contains(t, w.succeeds(t, sb, "ping -4 -c 1 -W 200 host.microsandbox.internal"), "1 received")
	assert.Equal(t, "same", w.datagram(t, sb, private4, 7, 10, "200"))
	assert.Contains(t, w.fails(t, sb, get+w.url(private4)+" 2>&1"), "Couldn't connect", "private networks by UDP only")
	log, err := os.ReadFile(homePath("sandboxes", sb.Name(), "logs", "runtime.log"))
	require.NoError(t, err)
	assert.Contains(t, string(log), "the policy let no connection out", "the user can see why")
}

func (w *world) testPorts(t *testing.T) {
	free, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	port := free.Addr().(*net.TCPAddr).AddrPort().Port()
	_, err = msb.CreateSandbox(within(t, long), newName(t), msb.WithImage("mini"), msb.WithPorts(map[uint16]uint16{port: 80}))
	assert.ErrorContains(t, err, "address already in use")
	require.NoError(t, free.Close())

	sb := w.sandbox(t, &msb.NetworkConfig{}, msb.WithPorts(map[uint16]uint16{port: 8000}), msb.WithPortsUDP(map[uint16]uint16{port: 9000}))
	w.succeeds(t, sb, `mkdir /srv/www; echo from the guest > /srv/www/index.html; cd /srv/www
cat > /tmp/echo.py <<'X'
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("", 9000))
open("/tmp/bound", "w").close()
while True:
    d, a = s.recvfrom(65535); s.sendto(d, a)
X
setsid python3 /tmp/echo.py >/dev/null 2>&1 </dev/null &
setsid python3 -m http.server 8000 >/dev/null 2>&1 </dev/null &
until python3 -c 'import socket; socket.create_connection(("127.0.0.1", 8000))' 2>/dev/null && [ -e /tmp/bound ]; do sleep 0.2; done`)
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port)))
	for range 5 {
		c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: long}
		r, err := c.Get("http://" + addr + "/")
		require.NoError(t, err)
		b, err := io.ReadAll(r.Body)
		require.NoError(t, err)
		require.NoError(t, r.Body.Close())
		assert.Equal(t, "from the guest\n", string(b))
	}
	c, err := net.Dial("udp", addr)
	require.NoError(t, err)
	defer func() { _ = c.Close() }()
	require.NoError(t, c.SetDeadline(time.Now().Add(long)))
	for _, n := range []int{1, 1400, 9000} {
		data := bytes.Repeat([]byte("y"), n)
		_, err = c.Write(data)
		require.NoError(t, err)
		b := make([]byte, 1<<16)
		k, err := c.Read(b)
		require.NoError(t, err)
		assert.True(t, bytes.Equal(data, b[:k]), "%d bytes", n)
	}
	require.NoError(t, sb.Stop(context.WithoutCancel(t.Context())))
	_, err = net.Dial("tcp", addr)
	assert.ErrorIs(t, err, syscall.ECONNREFUSED, "the port ends with the sandbox")
}

func (w *world) testClosed(t *testing.T) {
	sb := w.sandbox(t, msb.NetworkPolicy.None())
	get := "curl -sS --max-time 200 "
	assert.Contains(t, w.fails(t, sb, get+w.url(world4)+" 2>&1"), "Couldn't connect")
	assert.Contains(t, w.fails(t, sb, get+"-g "+w.url(world6)+" 2>&1"), "Couldn't connect")
	assert.Contains(t, w.fails(t, sb, get+w.url("www.good.test")+" 2>&1"), "Could not resolve host")
	assert.Equal(t, "silence", w.datagram(t, sb, world4, 7, 10, "0.5"))
}

// testOfficial has microsandbox 0.6.18 drive its own runtime and ours: the guests see the
// same network.
func (w *world) testOfficial(t *testing.T) {
	b, err := os.ReadFile(data("official"))
	require.NoError(t, err)
	official, us := string(b), os.Getenv("MSB_PATH")
	// The official program looks for its kernel beside the runtime, or in its home.
	kernel := filepath.Join("lib", "libkrunfw.so.5.6.1")
	require.NoError(t, os.MkdirAll(filepath.Join(data("by-official"), "lib"), 0o755))
	require.NoError(t, os.Symlink(filepath.Join(filepath.Dir(filepath.Dir(official)), kernel), filepath.Join(data("by-official"), kernel)))
	script := strings.NewReplacer("WEB", strconv.Itoa(int(w.web)), "LOOPBACK", strconv.Itoa(int(w.loopback)), "WORLD4", world4, "PRIVATE", private4).Replace(`
get() { curl -s --max-time 200 "$@"; echo " $?"; }
get http://WORLD4:WEB/; get http://PRIVATE:WEB/; get -4 http://www.good.test:WEB/; get http://host.microsandbox.internal:LOOPBACK/; get http://bad.test:WEB/
cat /etc/resolv.conf /etc/hosts | grep -v localhost
cat /sys/class/net/eth0/mtu; ip -o addr show dev eth0 scope global | awk '{print $3, $4}'; ip route show default; ip -6 route show default | cut -d' ' -f1-5`)
	addresses := regexp.MustCompile(`172\.\d+\.\d+\.\d+|fd42[0-9a-f:]+`)
	want := ""
	for _, c := range []struct{ who, program, runtime string }{{"0.6.18 alone", official, official}, {"0.6.18 with our runtime", official, us}, {"ours", us, us}} {
		cmd := exec.CommandContext(within(t, 3*long), c.program, "run", "--pull", "never", "--dns-nameserver", "127.0.0.1",
			"--net-rule", "deny@bad.test,allow@host:tcp:"+strconv.Itoa(int(w.loopback)), "debian", "--", "sh", "-c", script)
		cmd.Env = append(os.Environ(), "NO_COLOR=1", "MSB_HOME="+data("by-official"), "MSB_PATH="+c.runtime, "HOME="+t.TempDir())
		cmd.WaitDelay = time.Second
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s: %s", c.who, out)
		got := addresses.ReplaceAllString(string(out), "ADDRESS")
		if want == "" {
			want = got
			assert.Contains(t, want, "hello from "+world4+" as "+world4)
		}
		assert.Equal(t, want, got, c.who)
	}
}
