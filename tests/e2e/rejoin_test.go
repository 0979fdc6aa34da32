//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	msb "github.com/gomsb/gomsb/sdk"
)

// rejoining is a script for a guest that is to be copied: in /t it keeps a connection to the
// outside, whose port is its argument, and one within the guest, listens, waits for a timer
// and counts. What is written to /t/out and /t/in goes into the connections.
const rejoining = `
mkdir /t; cd /t; mkfifo out in hold; exec 3<>out 4<>in 5<>hold; echo hello >page
httpd -p 8000 -h /t
(nc ` + world4 + ` $1 <out >heard; echo $? >over) &
nc -l -p 8001 <hold >within &
until nc 127.0.0.1 8001 <in; do sleep 0.2; done &
(sleep 15; echo rings >timer) &
i=0; while :; do i=$((i+1)); echo $i >count.new; mv count.new count; sleep 0.1; done
`

// factsOf is a script that tells what a guest is: "name=value" lines. Its argument is a page
// outside.
const factsOf = `
tell() { name=$1; shift; echo $name=$("$@" 2>&1); }
file() { [ ! -e $1 ] || cat $1; }
addr() { ip -$1 -o addr show eth0 scope global | awk '{print $4}'; }
tell uuid cat /proc/sys/kernel/random/uuid
tell random sh -c 'head -c 16 /dev/urandom | od -An -tx1'
tell mac cat /sys/class/net/eth0/address
tell ipv4 addr 4
tell ipv6 addr 6
tell routes ip -4 route
tell gateway sh -c "ip -4 route | sed -n 's/^default via \([0-9.]*\).*/\1/p'"
tell gateway6 sh -c "ip -6 route | sed -n 's/^default via \([0-9a-f:]*\).*/\1/p'"
tell hostname hostname
tell etc-hostname cat /etc/hostname
tell hosts sed -n 's/^127.0.0.1[[:space:]]*//p' /etc/hosts
tell alias sh -c 'grep host.microsandbox.internal /etc/hosts | cut -f1'
tell servers sed -n 's/^nameserver //p' /etc/resolv.conf
tell date date +%s
tell own wget -qO- http://127.0.0.1:8000/page
tell address wget -qO- http://$(addr 4 | cut -d/ -f1):8000/page
tell outside wget -qO- $1
tell count cat /t/count
tell over file /t/over
tell heard file /t/heard
tell within file /t/within
tell timer file /t/timer
tell dmesg sh -c "dmesg | grep -iE 'stall|lockup|hung|oops|bug:'"
tell renewed sh -c "dmesg | grep -c 'virtual machine fork'"
`

func (w *world) facts(t *testing.T, sb *msb.Sandbox) map[string]string {
	t.Helper()
	out, err := sb.Exec(within(t, long), "sh", []string{"-c", factsOf, "sh", w.url(world4)})
	require.NoError(t, err)
	all := map[string]string{}
	for line := range strings.Lines(out.Stdout()) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		all[name] = value
	}
	return all
}

// TestRejoin copies a guest in the middle of everything, with our agent as PID 1 and beside
// another init, and looks at what the copy has of its own and what goes on.
func TestRejoin(t *testing.T) {
	if !inNameSpace(t) {
		return
	}
	w := newWorld(t)
	t.Run("Agent", func(t *testing.T) { w.testRejoin(t) })
	t.Run("Init", func(t *testing.T) {
		w.testRejoin(t, msb.WithInit(msb.Init.Cmd("/bin/init", msb.InitOptions{})))
	})
}

func (w *world) testRejoin(t *testing.T, opts ...msb.SandboxOption) {
	listener, err := net.Listen("tcp", world4+":0")
	require.NoError(t, err)
	defer func() { _ = listener.Close() }()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	require.NoError(t, err)
	source := createAs(t, newName(t), opts...)
	work, err := source.ExecStream(t.Context(), "sh", []string{"-c", rejoining, "sh", port}, msb.WithExecUser("root"))
	require.NoError(t, err)
	defer func() { _ = work.Close() }()
	conn, err := listener.Accept()
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	// 8001 is 1F41, and 01 is a connection.
	before := 0
	eventually(t, "the guest counts and talks to itself", func() bool {
		text := shell(t, source, `awk '$3 ~ /:1F41$/ && $4 == "01"' /proc/net/tcp | wc -l; cat /t/count`)
		n, err := fmt.Sscanf(text, "1\n%d", &before)
		return n == 1 && err == nil
	})
	branch := func(sb *msb.Sandbox) *msb.Sandbox {
		all, err := sb.Branch(within(t, long), []string{newName(t)})
		require.NoError(t, err)
		require.Len(t, all, 1)
		return all[0]
	}
	kid := branch(source)

	eventually(t, "the connection of the copy is gone", func() bool { return shell(t, kid, "cat /t/over 2>/dev/null || true") != "" })
	_, err = conn.Write([]byte("still there\n"))
	require.NoError(t, err)
	eventually(t, "that of the source goes on", func() bool { return shell(t, source, "cat /t/heard") == "still there" })
	known := map[string]map[string]string{}
	for _, sb := range []*msb.Sandbox{source, kid} {
		shell(t, sb, "hostname >/t/in; until [ -e /t/timer ]; do sleep 0.2; done")
		eventually(t, "the connection within the guest goes on", func() bool { return shell(t, sb, "cat /t/within") == sb.Name() })
		begin := time.Now().Unix()
		f := w.facts(t, sb)
		known[sb.Name()] = f
		assert.Equal(t, "hello", f["own"], "the server goes on")
		assert.Equal(t, "hello", f["address"], "at its address as well")
		assert.Contains(t, f["outside"], "hello from "+world4)
		assert.Equal(t, "rings", f["timer"])
		assert.Empty(t, f["dmesg"])
		assert.Equal(t, sb.Name(), f["hostname"])
		assert.Equal(t, sb.Name(), f["etc-hostname"])
		assert.Equal(t, "localhost "+sb.Name(), f["hosts"])
		assert.NotNil(t, net.ParseIP(f["gateway"]), "%s", f["routes"])
		assert.Equal(t, f["gateway"]+" "+f["gateway6"], f["alias"])
		assert.Equal(t, f["gateway"]+" "+f["gateway6"], f["servers"])
		clock, err := strconv.ParseInt(f["date"], 10, 64)
		require.NoError(t, err)
		assert.GreaterOrEqual(t, clock, begin-1, "the clock is right")
		assert.LessOrEqual(t, clock, time.Now().Unix()+1, "the clock is right")
		count, err := strconv.Atoi(f["count"])
		require.NoError(t, err)
		assert.Greater(t, count, before)
		eventually(t, "it counts on", func() bool { return shell(t, sb, "cat /t/count") != f["count"] })
	}
	one, other := known[source.Name()], known[kid.Name()]
	generations := func(f map[string]string) int {
		n, err := strconv.Atoi(f["renewed"])
		require.NoError(t, err)
		return n
	}
	assert.Equal(t, generations(one)+1, generations(other), "the kernel was told before programs ran")
	assert.Empty(t, one["over"])
	assert.Empty(t, other["heard"], "nothing of the source's connection is heard in the copy")
	for _, what := range []string{"uuid", "random", "mac", "ipv4", "ipv6", "gateway", "gateway6", "routes"} {
		assert.NotEmpty(t, one[what], what)
		assert.NotEqual(t, one[what], other[what], "%s: a copy has it in common with its source", what)
		assert.Len(t, strings.Fields(other[what]), len(strings.Fields(one[what])), "%s: nothing is left of the source: %s", what, other[what])
	}

	// A copy of the copy, when the source is gone.
	require.NoError(t, source.Kill(within(t, patience)))
	third := branch(kid)
	f := w.facts(t, third)
	assert.Equal(t, third.Name(), f["hostname"])
	assert.Equal(t, kid.Name(), f["within"])
	assert.Contains(t, f["outside"], "hello from "+world4)
	assert.NotEqual(t, other["ipv4"], f["ipv4"])
	assert.Equal(t, generations(other)+1, generations(f))
}
