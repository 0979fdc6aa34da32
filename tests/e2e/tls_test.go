//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	mitm "github.com/gomsb/gomsb/netstack/tls"
	msb "github.com/gomsb/gomsb/sdk"
)

// TestTLS is about sandboxes whose TLS is intercepted, in the small Internet of TestNetwork
// with servers that have certificates.
func TestTLS(t *testing.T) {
	if !inNameSpace(t) {
		return
	}
	w := newSecureWorld(t)
	t.Run("Clients", w.testClients)
	t.Run("Limits", w.testLimits)
	t.Run("Command", w.testCommand)
}

// secureWorld is a world with servers that are certified.
type secureWorld struct {
	*world
	trusted string // file with the authority of those that the sandboxes trust
}

const tunnelPort = 3128

func newSecureWorld(t *testing.T) *secureWorld {
	w := &secureWorld{world: newWorld(t), trusted: filepath.Join(t.TempDir(), "world.pem")}
	known, strange := w.authority(t), w.authority(t)
	hello := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(rw, "%s to %s as %s, %d bytes\n", r.Proto, r.TLS.ServerName, r.Host, n)
	})
	for addr, by := range map[string]*tls.Config{"[::]:443": known, "[::]:8443": strange} {
		l, err := net.Listen("tcp", addr)
		require.NoError(t, err)
		s := &http.Server{Handler: hello}
		go func() { _ = s.Serve(tls.NewListener(l, by)) }()
		t.Cleanup(func() { _ = s.Close() })
	}
	for _, port := range []string{"443", "444"} { // QUIC, and not
		serveEcho(t, world4, port)
	}
	serveSealed(t, known)
	serveTunnels(t)
	return w
}

// authority is a server's configuration with certificates of a new authority, the first of
// which the sandboxes trust.
func (w *secureWorld) authority(t *testing.T) *tls.Config {
	a, err := mitm.PersistedAuthority(t.Context(), t.TempDir())
	require.NoError(t, err)
	if _, err := os.Stat(w.trusted); err != nil {
		require.NoError(t, os.WriteFile(w.trusted, a.PEM(), 0o644))
	}
	i, err := mitm.New(mitm.Config{Authority: a})
	require.NoError(t, err)
	return i.Guest()
}

// serveSealed is the name server of the world by TLS: it asks the one by UDP.
func serveSealed(t *testing.T, c *tls.Config) {
	l, err := tls.Listen("tcp", net.JoinHostPort(world4, "853"), c)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serveQueries(c)
		}
	}()
}

func serveQueries(c net.Conn) {
	defer func() { _ = c.Close() }()
	for {
		var size [2]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		m := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(c, m); err != nil {
			return
		}
		up, err := net.Dial("udp", "127.0.0.1:53")
		if err != nil {
			return
		}
		_, _ = up.Write(m)
		b := make([]byte, 1<<16)
		n, err := up.Read(b)
		_ = up.Close()
		if err != nil {
			return
		}
		if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(n)), b[:n]...)); err != nil {
			return
		}
	}
}

// serveTunnels is an HTTP proxy that leads every tunnel to the world's servers.
func serveTunnels(t *testing.T) {
	l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", world4, tunnelPort))
	require.NoError(t, err)
	s := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		_, port, err := net.SplitHostPort(r.Host)
		if r.Method != http.MethodConnect || err != nil {
			http.Error(rw, "CONNECT only", http.StatusMethodNotAllowed)
			return
		}
		to, err := net.Dial("tcp", net.JoinHostPort(world4, port))
		if err != nil {
			http.Error(rw, err.Error(), http.StatusBadGateway)
			return
		}
		rw.WriteHeader(http.StatusOK)
		c, buffered, err := rw.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		go func() {
			_, _ = io.Copy(to, buffered)
			_ = to.(*net.TCPConn).CloseWrite()
		}()
		_, _ = io.Copy(c, to)
		_, _ = c.Close(), to.Close()
	})}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
}

// request is a program for the guest that asks for a URL with Python's defaults, and says
// who certifies the server.
const request = `
import socket, ssl, sys
host, port = sys.argv[1], int(sys.argv[2])
s = ssl.create_default_context().wrap_socket(socket.create_connection(("` + world4 + `", port)), server_hostname=host)
print(dict(x[0] for x in s.getpeercert()["issuer"])["commonName"], s.version())
s.sendall(b"GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % host.encode())
print(s.makefile().read().splitlines()[-1])
`

// testClients: programs of the image trust what they meet without being told.
func (w *secureWorld) testClients(t *testing.T) {
	sb := w.sandbox(t, &msb.NetworkConfig{TLS: &msb.TLSConfig{Bypass: []string{"*.bank.test"}, UpstreamCACerts: []string{w.trusted}}})
	get := "curl -sS --max-time 200 "
	assert.Equal(t, "HTTP/1.1 to www.good.test as www.good.test, 0 bytes", w.succeeds(t, sb, get+"-4 https://www.good.test/"))
	assert.Equal(t, "HTTP/1.1 to www.good.test as www.good.test, 300000 bytes",
		w.succeeds(t, sb, "head -c 300000 /dev/zero | "+get+"-6 -H 'Transfer-Encoding: chunked' --data-binary @- https://www.good.test/"))
	out := w.succeeds(t, sb, "python3 -c '"+request+"' www.good.test 443")
	assert.Contains(t, out, "microsandbox CA TLSv1.3")
	assert.Contains(t, out, "HTTP/1.1 to www.good.test as www.good.test, 0 bytes")
	out = w.succeeds(t, sb, "openssl s_client -tls1_2 -connect "+world4+":443 -servername www.good.test -verify_return_error </dev/null 2>&1")
	assert.Contains(t, out, "Verify return code: 0 (ok)")

	bank := get + "--resolve www.bank.test:443:" + world4 + " https://www.bank.test/ "
	assert.Contains(t, w.fails(t, sb, bank+"2>&1"), "certificate", "the server's own, which the guest does not know")
	assert.Contains(t, w.succeeds(t, sb, bank+"-k"), "to www.bank.test as www.bank.test")

	proxied := fmt.Sprintf("HTTPS_PROXY=http://%s:%d %s", world4, tunnelPort, get)
	assert.Equal(t, "HTTP/1.1 to other.test as other.test, 0 bytes", w.succeeds(t, sb, proxied+"https://other.test/"), "in a tunnel, by our certificate")

	env := w.succeeds(t, sb, "env; ls /usr/local/share/ca-certificates /etc/pki/ca-trust/source/anchors; ls -l /.msb/tls")
	for _, want := range []string{
		"SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt", "REQUESTS_CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt", "CURL_CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt",
		"NODE_EXTRA_CA_CERTS=/.msb/tls/ca.pem", "microsandbox-ca.pem", "microsandbox-ca.crt",
	} {
		assert.Contains(t, env, want)
	}
	assert.Equal(t, "1", w.succeeds(t, sb, "ls -l /.msb/tls | grep -c pem"), "the key stays where it is")
	given := w.succeeds(t, sb, "cat /.msb/tls/ca.pem")
	kept, err := os.ReadFile(homePath("tls", "ca.crt"))
	require.NoError(t, err)
	assert.Equal(t, strings.TrimSpace(string(kept)), strings.TrimSpace(given), "all sandboxes have one")

	require.NoError(t, sb.Stop(context.WithoutCancel(t.Context())))
	again, err := msb.StartSandbox(within(t, long), sb.Name())
	require.NoError(t, err)
	t.Cleanup(func() { _ = again.Kill(context.Background()) })
	assert.Contains(t, w.succeeds(t, again, get+"-4 https://www.good.test/"), "HTTP/1.1 to www.good.test")
	assert.Equal(t, "1", w.succeeds(t, again, `python3 -c 'print(open("/etc/ssl/certs/ca-certificates.crt").read().count(open("/.msb/tls/ca.pem").read().strip()))'`), "it is trusted once")
}

// question is a program for the guest that resolves a name by TLS, and prints the result
// code and the address.
const question = `
import socket, ssl, struct, sys
server, name = sys.argv[1], sys.argv[2]
s = ssl.create_default_context().wrap_socket(socket.create_connection((server, 853)), server_hostname="dns.test")
q = b"".join(bytes([len(l)]) + l.encode() for l in name.split(".")) + b"\0\0\1\0\1"
m = struct.pack("!6H", 7, 256, 1, 0, 0, 0) + q
s.sendall(struct.pack("!H", len(m)) + m)
f = s.makefile("rb")
r = f.read(struct.unpack("!H", f.read(2))[0])
print(r[3] & 15, ".".join(map(str, r[-4:])) if struct.unpack("!H", r[6:8])[0] else "")
`

// testLimits: what is not intercepted does not pass, and names are resolved by TLS as the
// policy says.
func (w *secureWorld) testLimits(t *testing.T) {
	rules, err := msb.ParsePolicyRules("deny@bad.test,deny@8.8.8.8,allow@any")
	require.NoError(t, err)
	sb := w.sandbox(t, &msb.NetworkConfig{Rules: rules, TLS: &msb.TLSConfig{
		InterceptedPorts: []uint16{443, 8443}, UpstreamCACerts: []string{w.trusted},
		ScopedVerifyUpstream: []msb.ScopedVerifyUpstream{{Pattern: "lax.test"}},
	}})
	get := "curl -4 -sS --max-time 200 "
	at := func(name, port string) string {
		return get + "--resolve " + name + ":" + port + ":" + world4 + " https://" + name + ":" + port + "/ 2>&1"
	}
	assert.Contains(t, w.fails(t, sb, at("www.good.test", "8443")), "reset", "a server that nobody knows")
	assert.Contains(t, w.succeeds(t, sb, at("lax.test", "8443")), "HTTP/1.1 to lax.test")
	w.fails(t, sb, at("bad.test", "443"))
	w.fails(t, sb, get+"-k https://"+world4+"/ 2>&1") // no name
	w.fails(t, sb, get+"http://"+world4+":443/ 2>&1") // no TLS
	assert.Equal(t, "silence", w.datagram(t, sb, world4, 443, 100, "0.5"), "QUIC")
	assert.Equal(t, "same", w.datagram(t, sb, world4, 444, 100, "200"))

	gateway := w.succeeds(t, sb, "ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p'")
	ask := func(server, name string) string {
		return strings.TrimSpace(w.succeeds(t, sb, "python3 -c '"+question+"' "+server+" "+name))
	}
	for _, server := range []string{gateway, world4} {
		assert.Equal(t, "0 "+world4, ask(server, "www.good.test"), server)
	}
	assert.Equal(t, "3", ask(gateway, "bad.test"))
	assert.Equal(t, "3", ask("8.8.8.8", "www.good.test"), "a resolver that the policy denies")

	log, err := os.ReadFile(homePath("sandboxes", sb.Name(), "logs", "runtime.log"))
	require.NoError(t, err)
	assert.Contains(t, string(log), "certificate signed by unknown authority", "the user can see why")
	assert.Contains(t, string(log), "bad.test")
}

// testCommand: msb with an authority of the user's.
func (w *secureWorld) testCommand(t *testing.T) {
	dir := t.TempDir()
	_, err := mitm.PersistedAuthority(t.Context(), dir)
	require.NoError(t, err)
	cert, key := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key")
	text, err := os.ReadFile(cert)
	require.NoError(t, err)
	require.True(t, x509.NewCertPool().AppendCertsFromPEM(text))
	r := cli(t, "run", "--pull", "never", "--dns-nameserver", "127.0.0.1", "--tls-intercept-ca-cert", cert, "--tls-intercept-ca-key", key,
		"--tls-upstream-ca-cert-for", "*.good.test="+w.trusted, "debian", "--", "sh", "-c", "curl -4 -sS --max-time 200 https://www.good.test/; cat /.msb/tls/ca.pem").ok(t)
	assert.Contains(t, r, "HTTP/1.1 to www.good.test")
	assert.Contains(t, r, string(text))
}
