//go:build e2e

package e2e

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/netstack/proxy/proxytest"
	msb "github.com/gomsb/gomsb/sdk"
)

// proxyPassword is nowhere but in the environment and in the launch configuration.
const proxyPassword = "hunter2-of-the-proxy"

// testWays is about a sandbox in strict mode behind a SOCKS5 proxy, with a published port
// that the host chooses.
func (w *world) testWays(t *testing.T) {
	p := &proxytest.Server{Username: "bob", Password: proxyPassword, Lead: func(to string) (string, bool) {
		_, address, _ := strings.Cut(to, " ")
		return address, true
	}}
	require.NoError(t, p.Start())
	t.Cleanup(p.Close)
	t.Setenv("E2E_PROXY_PASSWORD", proxyPassword)
	rules, err := msb.ParsePolicyRules("allow@dns,allow@*.good.test,allow@[" + world6 + "]")
	require.NoError(t, err)
	sb := w.sandbox(t, &msb.NetworkConfig{
		Rules: rules, Strict: true,
		OutboundProxy: &msb.OutboundProxyConfig{URL: "socks5://" + p.Addr().String(), Socks5Username: "bob", Socks5PasswordEnv: "E2E_PROXY_PASSWORD"},
	}, msb.WithPortBindings(msb.PortBinding{GuestPort: 8000}))

	web, get := ":"+strconv.Itoa(int(w.web)), "curl -4 -sS --max-time 200 "
	assert.Contains(t, w.succeeds(t, sb, get+w.url("www.good.test")), "hello from "+world4+" as www.good.test")
	w.fails(t, sb, get+"-H 'Host: bad.test' "+w.url("www.good.test"))
	w.fails(t, sb, get+w.url(world4)) // the name's address, and not the name
	assert.Equal(t, "b''", w.succeeds(t, sb, `python3 -c 'import socket; s = socket.create_connection(("`+world4+`", `+web[1:]+`)); s.sendall(b"SSH-2.0-x\r\n"); print(s.recv(9))'`))
	assert.Contains(t, w.succeeds(t, sb, "curl -g -sS --max-time 200 "+w.url(world6)), "hello from "+world6)
	assert.Equal(t, "same", w.datagram(t, sb, world6, 7, 3000, "200"))
	w.fails(t, sb, "ping -6 -c 1 -W 1 "+world6)
	assert.Equal(t, []string{"tcp " + world4 + web, "tcp " + net.JoinHostPort(world6, web[1:]), "udp " + net.JoinHostPort(world6, "7")}, p.Asked(), "what was let out, and nothing else")

	log, err := os.ReadFile(homePath("sandboxes", sb.Name(), "logs", "runtime.log"))
	require.NoError(t, err)
	assert.Contains(t, string(log), "denied in strict mode")
	assert.NotContains(t, string(log), proxyPassword)
	h, err := msb.GetSandbox(t.Context(), sb.Name())
	require.NoError(t, err)
	assert.Contains(t, h.ConfigJSON(), `"var":"E2E_PROXY_PASSWORD"`)
	assert.NotContains(t, h.ConfigJSON()+h.ActiveConfigJSON(), proxyPassword)
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	require.NoError(t, err)
	for _, name := range lines {
		b, _ := os.ReadFile(name) // of a process that is gone meanwhile
		assert.NotContains(t, string(b), proxyPassword, name)
	}

	ports, err := sb.Ports(t.Context())
	require.NoError(t, err)
	require.Len(t, ports, 1)
	require.NotZero(t, ports[0].HostPort)
	text := "127.0.0.1:" + strconv.Itoa(int(ports[0].HostPort)) + "->8000/tcp"
	var listed []struct {
		Name  string
		Ports []string
	}
	require.NoError(t, json.Unmarshal([]byte(cli(t, "ps", "--format", "json").stdout), &listed))
	shown := map[string][]string{}
	for _, l := range listed {
		shown[l.Name] = l.Ports
	}
	assert.Equal(t, []string{text}, shown[sb.Name()])
	assert.Contains(t, cli(t, "inspect", sb.Name()).stdout, text)

	w.succeeds(t, sb, `mkdir -p /srv/www; echo from the guest > /srv/www/index.html; cd /srv/www
setsid python3 -m http.server 8000 >/dev/null 2>&1 </dev/null &
until python3 -c 'import socket; socket.create_connection(("127.0.0.1", 8000))' 2>/dev/null; do sleep 0.2; done`)
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: long}
	r, err := c.Get("http://127.0.0.1:" + strconv.Itoa(int(ports[0].HostPort)) + "/")
	require.NoError(t, err)
	defer func() { _ = r.Body.Close() }()
	b, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	assert.Equal(t, "from the guest\n", string(b))
}

// testPathMTU makes the world narrower than the guest's card: the guest learns it.
func (w *world) testPathMTU(t *testing.T, sb *msb.Sandbox) {
	mtu := func(n string) {
		out, err := exec.CommandContext(t.Context(), "busybox", "ip", "link", "set", "lo", "mtu", n).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	mtu("1400")
	defer mtu("65536")
	for _, addr := range []string{world4, world6} {
		assert.Equal(t, "same", w.datagram(t, sb, addr, 7, 1430, "200"), "it goes in fragments")
		assert.Contains(t, w.succeeds(t, sb, "ip route get "+addr), "mtu 1400")
	}
}
