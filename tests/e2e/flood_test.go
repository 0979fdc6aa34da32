//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	msb "github.com/gomsb/gomsb/sdk"
)

// flood is a program for the guest that sends all kinds of packets to the gateway, many at
// a time, until it is killed.
const flood = `
import socket, struct, sys
gateway = sys.argv[1]
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
ping = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
def checksum(b):
    s = sum(struct.unpack("!%dH" % (len(b) // 2), b))
    s = (s >> 16) + (s & 0xffff)
    return ~(s + (s >> 16)) & 0xffff
def quietly(f, *a):
    try: f(*a)
    except OSError: pass
print("begun", flush=True)
n = 0
while True:
    pending = []
    for i in range(64):
        n += 1
        s = socket.socket(); s.setblocking(False); pending.append(s)
        quietly(s.connect, (gateway, 20000 + n % 10000))
        quietly(udp.sendto, b"x" * 1000, (gateway, 20000 + n % 10000))
        echo = struct.pack("!BBHHH", 8, 0, 0, 1, n % 65536) + b"x" * 1000
        quietly(ping.sendto, echo[:2] + struct.pack("!H", checksum(echo)) + echo[4:], (gateway, 0))
        query = struct.pack("!HHHHHH", n % 65536, 256, 1, 0, 0, 0) + b"\x08%08d\x04test\0\0\x01\0\x01" % n
        quietly(udp.sendto, query, (gateway, 53))
    for s in pending: s.close()
`

// hoard is a program for the guest that opens connections and reads nothing from them. It
// says how many of them there are, and ends when they do.
const hoard = `
import resource, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (1000, 1000))
open_ = []
refused = 0
for i in range(140):
    try: open_.append(socket.create_connection((sys.argv[1], int(sys.argv[2])), 200))
    except ConnectionRefusedError: refused += 1
print(len(open_), refused, flush=True)
sys.stdin.readline()
for s in open_:
    try:
        while s.recv(65536): pass
    except ConnectionError: pass
print("over", flush=True)
`

// TestFlood: whatever a guest sends, its runtime stays and answers in time.
func TestFlood(t *testing.T) {
	rules, err := msb.ParsePolicyRules("allow@host")
	require.NoError(t, err)
	sb, err := msb.CreateSandbox(within(t, 4*patience), newName(t), msb.WithImage("debian"), msb.WithNetwork(&msb.NetworkConfig{Rules: rules}))
	require.NoError(t, err)
	t.Cleanup(func() { _ = sb.Kill(context.Background()) })
	out, err := sb.Shell(within(t, 4*patience), "ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p'")
	require.NoError(t, err)
	gateway := strings.TrimSpace(out.Stdout())
	t.Run("Packets", func(t *testing.T) { floodPackets(t, sb, gateway) })
	t.Run("Descriptors", func(t *testing.T) { hoardConnections(t, sb, gateway) })
}

// slowest is the 99th percentile of some pings of the agent.
func slowest(t *testing.T, sb *msb.Sandbox) time.Duration {
	var all []time.Duration
	for range 100 {
		p, err := sb.Ping(within(t, 4*patience))
		require.NoError(t, err)
		all = append(all, p.Latency)
	}
	slices.Sort(all)
	return all[98]
}

// floodPackets compares how long the agent takes with and without a flood. The machine may
// have other things to do meanwhile, or have had them before, so that there are some tries.
func floodPackets(t *testing.T, sb *msb.Sandbox, gateway string) {
	ctx := within(t, 4*patience)
	idle, busy := time.Duration(0), time.Hour
	for range 8 {
		idle = max(idle, slowest(t, sb))
		h, err := sb.ExecStream(ctx, "python3", []string{"-c", flood, gateway})
		require.NoError(t, err)
		awaitLine(t, h, "begun")
		busy = min(busy, slowest(t, sb))
		require.NoError(t, h.Kill(ctx))
		_, _ = h.Wait(ctx)
		if busy < 10*idle {
			break
		}
	}
	assert.Less(t, busy, 10*idle)
	out, err := sb.Exec(ctx, "echo", []string{"calm"})
	require.NoError(t, err)
	assert.Equal(t, "calm\n", out.Stdout())
}

// pour writes until the other end is gone.
func pour(c net.Conn) {
	for b := make([]byte, 1<<16); ; {
		if _, err := c.Write(b); err != nil {
			return
		}
	}
}

// hoardConnections lets the guest open more connections than its runtime has descriptors
// for, and then ends them all at once, from the other side.
func hoardConnections(t *testing.T, sb *msb.Sandbox, gateway string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	accepted := make(chan net.Conn, 300)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
			if len(accepted) <= 20 {
				go pour(c)
			}
		}
	}()
	const descriptors = 160
	pids := runtimes(t, sb.Name())
	require.Len(t, pids, 1)
	require.NoError(t, unix.Prlimit(pids[0], unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: descriptors, Max: descriptors}, nil))

	ctx := within(t, 4*patience)
	h, err := sb.ExecStream(ctx, "python3", []string{"-c", hoard, gateway, fmt.Sprint(l.Addr().(*net.TCPAddr).Port)}, msb.WithExecStdinPipe())
	require.NoError(t, err)
	var open, refused int
	_, err = fmt.Sscan(awaitLine(t, h, ""), &open, &refused)
	require.NoError(t, err)
	assert.Equal(t, 140, open+refused)
	assert.Positive(t, open)
	assert.Less(t, open, descriptors*3/4)

	// Others have their share: a new client of the agent, and a command.
	again, err := msb.GetSandbox(ctx, sb.Name())
	require.NoError(t, err)
	_, err = again.Ping(ctx)
	require.NoError(t, err)
	out, err := sb.Exec(ctx, "echo", []string{"there"})
	require.NoError(t, err)
	assert.Equal(t, "there\n", out.Stdout())

	for range open {
		c := <-accepted
		_ = c.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
	}
	_, err = h.TakeStdin().Write([]byte("\n"))
	require.NoError(t, err)
	awaitLine(t, h, "over")
	_, err = h.Wait(ctx)
	require.NoError(t, err)
}

// awaitLine is the first line that a command prints which is want, any if that is "".
func awaitLine(t *testing.T, h *msb.ExecHandle, want string) string {
	t.Helper()
	ctx := within(t, 4*patience)
	var text strings.Builder
	for {
		e, err := h.Recv(ctx)
		require.NoError(t, err)
		require.NotEqual(t, msb.ExecEventExited, e.Kind, "the command ended: %s", text.String())
		text.Write(e.Data)
		for line := range strings.Lines(text.String()) {
			if l, whole := strings.CutSuffix(line, "\n"); whole && (want == "" || l == want) {
				return l
			}
		}
	}
}
