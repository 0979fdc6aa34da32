//go:build e2e

package e2e

import (
	"context"
	"io"
	"net"
	"net/http"
	"os/exec"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	msb "github.com/gomsb/gomsb/sdk"
)

// More addresses of the world: where clouds have metadata for IPv6, and one that only
// hidden.test leads to.
const (
	metadata6 = "fd00:ec2::254"
	hidden4   = "198.41.0.4"
)

// TestEscapes has a guest try to reach what its policy denies, in a small Internet where
// all of it would answer.
func TestEscapes(t *testing.T) {
	if !inNameSpace(t) {
		return
	}
	w := newWorld(t)
	for _, args := range [][]string{{"-6", "addr", "add", metadata6 + "/128", "dev", "lo"}, {"addr", "add", hidden4 + "/32", "dev", "lo"}} {
		require.NoError(t, exec.CommandContext(t.Context(), "busybox", append([]string{"ip"}, args...)...).Run())
	}
	s := newServers(t, w)
	w.site.HandleFunc("POST /dns-query", func(rw http.ResponseWriter, r *http.Request) {
		q, _ := io.ReadAll(r.Body)
		rw.Header().Set("Content-Type", "application/dns-message")
		_, _ = rw.Write(w.answer(q))
	})
	t.Run("Addresses", w.testAddresses)
	t.Run("Frames", w.testFrames)
	t.Run("Names", func(t *testing.T) { w.testNames(t, s) })
}

// testAddresses is about addresses that the default policy denies, and other sandboxes.
func (w *world) testAddresses(t *testing.T) {
	victim := w.sandbox(t, &msb.NetworkConfig{}, msb.WithImage("mini"))
	w.succeeds(t, victim, "mkdir /www; echo secret >/www/index.html; httpd -p 8000 -h /www; wget -qO- http://127.0.0.1:8000/")
	addresses := strings.Fields(w.succeeds(t, victim, `ip -o addr show eth0 | awk '/inet 172|inet6 fd42/ { sub("/.*", "", $4); print $4 }'; awk '/^nameserver/ { print $2 }' /etc/resolv.conf`))
	require.Len(t, addresses, 4, "the guest's and the gateway's")

	sb := w.sandbox(t, &msb.NetworkConfig{})
	gateways := strings.Fields(w.succeeds(t, sb, "awk '/^nameserver/ { print $2 }' /etc/resolv.conf"))
	require.Len(t, gateways, 2)
	web := func(hosts ...string) (urls []string) {
		for _, h := range hosts {
			urls = append(urls, w.url(h))
		}
		return urls
	}
	denied := web(private4, metadata4, metadata6, "::ffff:"+metadata4, "::ffff:"+private4, "64:ff9b::"+metadata4, "64:ff9b::"+private4, "64:ff9b::127.0.0.1")
	for _, g := range gateways {
		denied = append(denied, w.url(g), "http://"+net.JoinHostPort(g, strconv.Itoa(int(w.loopback))))
	}
	for _, a := range addresses {
		denied = append(denied, "http://"+net.JoinHostPort(a, "8000"))
	}
	open := web(world4, world6, "::ffff:"+world4)
	// One curl for each, all by one script; codes are 7 for a connection that is refused.
	script := "for u in " + strings.Join(append(open, denied...), " ") + `; do code=0; curl -g -sS -o /dev/null --max-time 200 "$u" 2>/dev/null || code=$?; echo "$u $code"; done`
	var want []string
	for _, u := range open {
		want = append(want, u+" 0")
	}
	for _, u := range denied {
		want = append(want, u+" 7")
	}
	assert.Equal(t, want, strings.Split(w.succeeds(t, sb, script), "\n"))
	assert.NoError(t, sb.Stop(context.WithoutCancel(t.Context())))

	// A policy that allows everything does not lead from sandbox to sandbox either.
	sb = w.sandbox(t, msb.NetworkPolicy.AllowAll())
	assert.Contains(t, w.succeeds(t, sb, "curl -sS "+w.url(private4)), "hello", "allowed here")
	w.fails(t, sb, "curl -sS --max-time 3 http://"+addresses[0]+":8000/")
	w.fails(t, sb, "curl -g -sS --max-time 3 'http://["+addresses[1]+"]:8000/'")
}

// frames is a program for the guest that sends datagrams with its own hands, most of which
// no gateway may carry. Each says what it is.
const frames = `
import socket, struct, sys, time
ours, gateway = (bytes.fromhex(a.replace(":", "")) for a in sys.argv[1:3])
guest4, guest6, world4, world6 = sys.argv[3:]
card = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); card.bind(("eth0", 0))
def total(b):
    s = sum(struct.unpack("!%dH" % (len(b) // 2), b + b"\0" * (len(b) % 2))) if len(b) % 2 == 0 else total(b + b"\0")
    while s > 0xffff: s = (s & 0xffff) + (s >> 16)
    return s
def send(name, src, dst, mac=ours, to=gateway):
    family = socket.AF_INET6 if ":" in dst else socket.AF_INET
    s, d = socket.inet_pton(family, src), socket.inet_pton(family, dst)
    data = name.encode()
    udp = struct.pack("!HHHH", 9999, 9, 8 + len(data), 0) + data
    check = ~total(s + d + struct.pack("!HH", 17, len(udp)) + udp) & 0xffff or 0xffff
    udp = udp[:6] + struct.pack("!H", check) + udp[8:]
    if family == socket.AF_INET:
        ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0) + s + d
        ip = ip[:10] + struct.pack("!H", ~total(ip) & 0xffff) + ip[12:]
    else:
        ip = struct.pack("!IHBB", 6 << 28, len(udp), 17, 64) + s + d
    card.send(to + mac + (b"\x08\x00" if family == socket.AF_INET else b"\x86\xdd") + ip + udp)
other = ours[:5] + bytes([ours[5] ^ 1, ])
send("source in another sandbox", "172.16.200.2", world4)
send("source in another sandbox, IPv6", "fd42:6d73:62:77::2", world6)
send("source that is the gateway", guest4.rsplit(".", 1)[0] + "." + str(int(guest4.rsplit(".", 1)[1]) - 1), world4)
send("source in the world", world4, world4)
send("source on the loopback", "127.0.0.1", world4)
send("source that is nobody", "0.0.0.0", world4)
send("link-local source", "fe80::1", world6)
send("another card", guest4, world4, mac=other)
send("another card, IPv6", guest6, world6, mac=other)
send("to another card", guest4, world4, to=other)
send("loopback", guest4, "127.0.0.1")
send("loopback, elsewhere", guest4, "127.1.2.3")
send("loopback, IPv6", guest6, "::1")
send("loopback, mapped", guest6, "::ffff:127.0.0.1")
send("mapped", guest6, "::ffff:" + world4)
send("unspecified", guest4, "0.0.0.0")
send("unspecified, IPv6", guest6, "::")
send("right", guest4, world4)
send("right, IPv6", guest6, world6)
`

// testFrames is about packets that no policy speaks of, so all is allowed.
func (w *world) testFrames(t *testing.T) {
	var mu sync.Mutex
	arrived := map[string]bool{}
	list := func() (l []string) {
		mu.Lock()
		defer mu.Unlock()
		for m := range arrived {
			l = append(l, m)
		}
		sort.Strings(l)
		return l
	}
	c, err := net.ListenPacket("udp", ":9")
	require.NoError(t, err)
	defer func() { _ = c.Close() }()
	go func() {
		b := make([]byte, 1<<16)
		for {
			n, _, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			mu.Lock()
			arrived[string(b[:n])] = true
			mu.Unlock()
		}
	}()
	sb := w.sandbox(t, msb.NetworkPolicy.AllowAll())
	require.NoError(t, sb.FS().Write(within(t, long), "/tmp/frames.py", []byte(frames)))
	w.succeeds(t, sb, `set -e; address() { ip -o $1 addr show dev eth0 scope global | awk '{ sub("/.*", "", $4); print $4 }'; }
ours=$(cat /sys/class/net/eth0/address); gateway=${ours%:*}:01
python3 /tmp/frames.py $ours $gateway $(address -4) $(address -6) `+world4+" "+world6)
	// Frames are looked at in turn, so the right ones, which are the last, say that all were.
	right := []string{"right", "right, IPv6"}
	assert.Eventually(t, func() bool { return len(list()) >= len(right) }, long, 50*time.Millisecond)
	assert.Equal(t, right, list())
}

// testNames is about names that are allowed and servers that are not.
func (w *world) testNames(t *testing.T, s *servers) {
	sandbox := func(rules string, strict bool) *msb.Sandbox {
		list, err := msb.ParsePolicyRules(rules)
		require.NoError(t, err)
		sb := w.sandbox(t, &msb.NetworkConfig{Rules: list, Strict: strict})
		require.NoError(t, sb.FS().Write(within(t, long), "/tmp/ca.pem", s.ca))
		return sb
	}
	const (
		good  = "https://www.good.test/hello"
		bad   = "https://bad.test/hello"
		there = ":443:" + world4
		other = ":443:" + private4
	)
	get := "curl -4 -sS --max-time 200 --cacert /tmp/ca.pem "
	hello := "HTTP/2.0 www.good.test www.good.test"

	sb := sandbox("allow@dns,allow@www.good.test", false)
	w.fails(t, sb, get+"--resolve www.good.test"+there+" "+good) // the guest has not asked for the name
	assert.Equal(t, hello, w.succeeds(t, sb, get+good))
	w.fails(t, sb, get+"--resolve bad.test"+there+" "+bad)          // of the same server, as another
	w.fails(t, sb, get+"-k --resolve www.good.test"+other+" "+good) // in name only
	w.fails(t, sb, get+"--doh-url https://www.good.test/dns-query -k https://hidden.test/hello")
	assert.Contains(t, w.succeeds(t, sb, get+"--doh-url https://www.good.test/dns-query "+good), hello, "DNS over HTTPS of an allowed server works")
	assert.NoError(t, sb.Stop(context.WithoutCancel(t.Context())))

	sb = sandbox("deny@bad.test,allow@dns,allow@public", false)
	assert.Contains(t, w.succeeds(t, sb, get+"-k https://"+hidden4+"/hello"), hidden4, "public")
	w.fails(t, sb, get+"--resolve bad.test"+there+" "+bad)
	w.fails(t, sb, get+"--doh-url https://bad.test/dns-query "+good)
	assert.NoError(t, sb.Stop(context.WithoutCancel(t.Context())))

	// Strict mode goes by what each request says.
	sb = sandbox("allow@dns,allow@www.good.test", true)
	assert.Contains(t, w.succeeds(t, sb, get+w.url("www.good.test")), "hello from "+world4)
	w.fails(t, sb, get+"-H 'Host: bad.test' "+w.url("www.good.test"))
	w.fails(t, sb, get+good) // cannot be seen into
}
