//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	msb "github.com/gomsb/gomsb/sdk"
)

// warm is a program that has done what takes long: 32 MiB of numbers are in its memory, it
// has two open files, one of which has no name any more, a timer and a thread that counts,
// both with a period of its argument in seconds, and listens at port 8000. Who writes a line
// there gets what it is by then, once timer and counter went on, and leaves the line in its
// memory and its file.
const warm = `
import array, json, os, signal, socket, sys, tempfile, threading, time, zlib
period = float(sys.argv[1])
state = array.array("d", [i / 3 for i in range(4096)]) * 1024
visitor, counts, rings = "nobody", 0, 0
own = open("/root/own", "w+")
own.write("nobody\n")
own.flush()
nameless = tempfile.TemporaryFile("w+")
nameless.write("kept")
nameless.flush()
def count():
    global counts
    while True:
        time.sleep(period)
        counts += 1
def ring(*_):
    global rings
    rings += 1
def content(f):
    f.seek(0)
    return f.read()
def serve(server):
    global visitor
    while True:
        c = server.accept()[0]
        name = c.makefile().readline().strip()
        own.write(name + "\n")
        own.flush()
        c0, r0 = counts, rings
        while counts == c0 or rings == r0:
            time.sleep(0.05)
        part = zlib.crc32(b"".join(state[i:i + 64].tobytes() for i in range(0, len(state), 1 << 13)))
        c.sendall(json.dumps({"pid": os.getpid(), "random": os.urandom(16).hex(), "clock": time.time(), "counts": counts, "rings": rings,
            "own": content(own), "nameless": content(nameless), "visitor": visitor, "state": part}).encode())
        c.close()
        visitor = name
signal.signal(signal.SIGALRM, ring)
signal.setitimer(signal.ITIMER_REAL, period, period)
threading.Thread(target=count, daemon=True).start()
threading.Thread(target=serve, args=[socket.create_server(("", 8000))], daemon=True).start()
while True:
    signal.pause()
`

// facts are what warm tells of itself, and the guest of its network.
type facts struct {
	PID                       int
	Random                    string
	Clock                     float64
	Counts, Rings             int
	Own, Nameless, Visitor    string
	State                     uint32
	Hostname, MAC, IPv4, IPv6 string
}

// visit asks the warm process of a sandbox from inside, by its own address.
func visit(ctx context.Context, sb *msb.Sandbox) (*facts, error) {
	const script = `addr() { ip -$1 -o addr show eth0 scope global | awk '{print $4}'; }
ip=$(addr 4); exec 3<>/dev/tcp/${ip%/*}/8000; echo $HOSTNAME >&3; cat <&3; echo
echo "{\"Hostname\": \"$(cat /etc/hostname)\", \"MAC\": \"$(cat /sys/class/net/eth0/address)\", \"IPv4\": \"$ip\", \"IPv6\": \"$(addr 6)\"}"`
	out, err := sb.Exec(ctx, "bash", []string{"-c", script})
	if err != nil {
		return nil, err
	}
	f := new(facts)
	for line := range strings.Lines(out.Stdout()) {
		if err := json.Unmarshal([]byte(line), f); err != nil {
			return nil, fmt.Errorf("%s says %q and %q: %w", sb.Name(), out.Stdout(), out.Stderr(), err)
		}
	}
	return f, nil
}

// TestChildren branches many children from one warm process: all go on by themselves. It logs
// what each costs while it is idle. Those that were visited are paused when there are many:
// an emulated machine has no time for a hundred that wake up every second.
func TestChildren(t *testing.T) {
	names := make([]string, rounds(3, 100))
	for i := range names {
		names[i] = newName(t)
	}
	ctx := within(t, time.Duration(len(names))*patience)
	source := createAs(t, newName(t), msb.WithImage("debian"))
	require.NoError(t, source.FS().WriteString(ctx, "/root/warm.py", warm))
	shell(t, source, "python3 /root/warm.py 1 </dev/null >/root/log 2>&1 &")
	shell(t, source, "until grep -q :1F40 /proc/net/tcp; do sleep 0.2; done")
	first, err := visit(ctx, source)
	require.NoError(t, err, shell(t, source, "cat /root/log"))

	v := visits{first: first, seen: map[string]string{}}
	for batch := range slices.Chunk(names, 10) {
		began := time.Now()
		children, err := source.Branch(ctx, batch)
		branched(t, children)
		require.NoError(t, err)
		require.Len(t, children, len(batch))
		t.Logf("%d children in %v", len(batch), time.Since(began).Round(time.Millisecond))
		// 1.9 to 2.0 MiB were seen, and 4.8 with what copies wrote to without need.
		assert.Less(t, logMemory(t, "idle", batch), 3<<10, "KiB of its guest, in small pages, that an idle copy shares with nobody")
		for _, sb := range children {
			v.visit(ctx, t, sb)
		}
		logMemory(t, "after a visit", batch)
		for _, sb := range children {
			if len(batch) < len(names) {
				require.NoError(t, sb.Pause(ctx))
			}
		}
	}
	v.visit(ctx, t, source)
}

// visits are those of the source and its children.
type visits struct {
	first *facts            // of the source before it had children
	seen  map[string]string // what is each sandbox's own: whose it is
}

// visit asks the warm process of a sandbox, which is to be what the first one was, and yet
// its own.
func (v *visits) visit(ctx context.Context, t *testing.T, sb *msb.Sandbox) {
	t.Helper()
	began := time.Now()
	f, err := visit(ctx, sb)
	require.NoError(t, err)
	for _, value := range []string{f.Random, f.Hostname, f.MAC, f.IPv4, f.IPv6} {
		require.NotEmpty(t, value, sb.Name())
		assert.Empty(t, v.seen[value], "%s and %s have %q in common", v.seen[value], sb.Name(), value)
		v.seen[value] = sb.Name()
	}
	assert.Equal(t, sb.Name(), f.Hostname)
	assert.Equal(t, v.first.PID, f.PID, "it is the same process")
	assert.Equal(t, v.first.State, f.State, "with the same state")
	assert.Equal(t, v.first.Hostname, f.Visitor, "%s has its own memory", sb.Name())
	assert.Equal(t, fmt.Sprintf("nobody\n%s\n%s\n", v.first.Hostname, sb.Name()), f.Own, "%s has its own files", sb.Name())
	assert.Equal(t, "kept", f.Nameless)
	assert.Greater(t, f.Counts, v.first.Counts)
	assert.Greater(t, f.Rings, v.first.Rings)
	// On a machine with too much to do the host's word about the time arrives late.
	const late = 10
	assert.GreaterOrEqual(t, f.Clock, float64(began.Unix()-late), "the clock of %s is right", sb.Name())
	assert.LessOrEqual(t, f.Clock, float64(time.Now().Unix()+late), "the clock of %s is right", sb.Name())
}

// usage is what a runtime has for itself, in KiB.
type usage struct {
	guest   int // pages of its guest that it shares with nobody
	blocks  int // of that, in huge pages
	runtime int // the proportional share of all else
	private int // of that, what it shares with nobody
	huge    int // of that, in huge pages
	tables  int // page tables of the process
}

// usageOf is the usage of a process, whose guest's memory alone is kept from children.
func usageOf(t *testing.T, pid int) (u usage) {
	t.Helper()
	smaps, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", pid))
	require.NoError(t, err)
	number := func(s string) (n int) {
		_, err := fmt.Sscan(s, &n)
		require.NoError(t, err, s)
		return n
	}
	var anonymous, pss, private, huge int
	for line := range strings.Lines(string(smaps)) {
		key, value, _ := strings.Cut(line, ":")
		switch key {
		case "Pss":
			pss, private = number(value), 0
		case "Private_Clean", "Private_Dirty":
			private += number(value)
		case "Anonymous":
			anonymous = number(value)
		case "AnonHugePages":
			huge = number(value)
		case "VmFlags":
			if slices.Contains(strings.Fields(value), "dc") {
				u.guest += anonymous
				u.blocks += huge
			} else {
				u.runtime += pss
				u.private += private
				u.huge += huge
			}
		}
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(t, err)
	_, after, ok := strings.Cut(string(status), "VmPTE:")
	require.True(t, ok)
	u.tables = number(after)
	return u
}

// logMemory reports what sandboxes cost each, and returns what of their guests they share
// with nobody in small pages, KiB, the median.
func logMemory(t *testing.T, when string, names []string) (pages int) {
	t.Helper()
	columns := map[string][]int{}
	for _, name := range names {
		pids := runtimes(t, name)
		require.Len(t, pids, 1, name)
		u := usageOf(t, pids[0])
		for what, n := range map[string]int{"guest": u.guest, "blocks": u.blocks, "pages": u.guest - u.blocks, "runtime": u.runtime, "private": u.private, "huge": u.huge, "tables": u.tables} {
			columns[what] = append(columns[what], n)
		}
	}
	var text string
	for _, what := range []string{"guest", "blocks", "pages", "runtime", "private", "huge", "tables"} {
		c := columns[what]
		slices.Sort(c)
		text += fmt.Sprintf(", %s %d (%d to %d)", what, c[len(c)/2], c[0], c[len(c)-1])
	}
	t.Logf("%s, KiB of each: %s", when, text[2:])
	return columns["pages"][len(names)/2] // sorted by now
}
