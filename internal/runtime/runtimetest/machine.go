package runtimetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/guestagent/proto"
	"github.com/gomsb/gomsb/internal/checkpoint"
	"github.com/gomsb/gomsb/internal/runtime"
	"github.com/gomsb/gomsb/internal/runtime/guesttest"
	"github.com/gomsb/gomsb/internal/template"
	"github.com/gomsb/gomsb/snapshot/format"
)

// guestEnv hands the Guest to the runtimes that a test starts, as JSON.
const guestEnv = "GOMSB_TEST_GUEST"

// Guest says how the fake guest behaves; the zero value is a healthy one.
type Guest struct {
	BuildError  string           // there is no machine, but this error
	NeverReady  bool             // the agent does not become ready
	IgnoreStop  bool             // the agent does not react to core.shutdown
	DiesAtBoot  bool             // the machine resets before the agent connects
	BootFailure *proto.CoreError // what the agent says instead of being ready
	BootTime    time.Duration    // until the agent connects

	NoMemoryDriver bool // the guest leaves the memory device alone
	KeepsMemory    bool // it gives no memory back
}

// Use makes the test binary the runtime of every sandbox that the test starts. TestMain
// has to call Main.
func Use(t testing.TB, g Guest) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(g)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("MSB_PATH", self)
	t.Setenv(guestEnv, string(text))
}

// Main is the runtime if this process was started as one, and does not return then.
func Main() {
	text := os.Getenv(guestEnv)
	if text == "" || len(os.Args) < 2 || os.Args[1] != "sandbox" {
		return
	}
	var g Guest
	if err := json.Unmarshal([]byte(text), &g); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	os.Exit(runtime.MainWith(os.Args[2:], g.build))
}

func (g Guest) build(cfg runtime.MachineConfig) (runtime.Machine, error) {
	if g.BuildError != "" {
		return nil, errors.New(g.BuildError)
	}
	m := &machine{guest: g, cfg: cfg, done: make(chan struct{})}
	m.memory = runtime.Memory{TargetMiB: cfg.MemoryMiB, CurrentMiB: cfg.MemoryMiB, Driven: cfg.MaxMemoryMiB > cfg.MemoryMiB && !g.NoMemoryDriver}
	m.agent = &guesttest.Agent{BootFailure: g.BootFailure, NeverReady: g.NeverReady, IgnoreStop: g.IgnoreStop, Crash: m.crash}
	return m, nil
}

// machine is a machine of which only the guest's agent is there.
type machine struct {
	guest Guest
	cfg   runtime.MachineConfig
	agent *guesttest.Agent
	done  chan struct{}
	wg    sync.WaitGroup

	mu      sync.Mutex
	memory  runtime.Memory  // protected by mu
	ended   bool            // protected by mu
	outcome runtime.Outcome // protected by mu
	conns   []net.Conn      // the guest's ends; protected by mu
}

// Start implements runtime.Machine.
func (m *machine) Ready()                  {}
func (m *machine) Settled()                {}
func (m *machine) Discredit()              {}
func (m *machine) Copied() bool            { return false }
func (m *machine) Wanted() *template.Shape { return nil }
func (m *machine) Start() error {
	fmt.Fprintf(m.cfg.Console, "fake kernel with %d processors\n", m.cfg.VCPUs)
	m.wg.Go(m.boot)
	return nil
}

func (m *machine) boot() {
	select {
	case <-time.After(m.guest.BootTime):
	case <-m.done:
		return
	}
	if m.guest.DiesAtBoot {
		fmt.Fprintln(m.cfg.Console, "Kernel panic - not syncing")
		m.end(runtime.Outcome{Reset: true, Text: "reset"})
		return
	}
	conn := m.dial(runtime.AgentPort)
	if conn == nil {
		return
	}
	if beats := m.dial(runtime.HeartbeatPort); beats != nil {
		m.wg.Go(func() { m.agent.Beat(beats, 10*time.Millisecond) })
	}
	if m.agent.Serve(conn) == nil {
		m.end(runtime.Outcome{Orderly: true, Text: "power-off"})
	}
}

// dial connects the guest to a port of the host, nil if it is refused.
func (m *machine) dial(port uint32) net.Conn {
	host, guest, err := socketPair()
	if err != nil {
		panic(err)
	}
	m.mu.Lock()
	m.conns = append(m.conns, guest)
	m.mu.Unlock()
	if !m.cfg.Listen(port, host) {
		_ = host.Close()
		return nil
	}
	return guest
}

// crash ends the machine from inside.
func (m *machine) crash(string) {
	fmt.Fprintln(m.cfg.Console, "BUG: unable to handle page fault")
	m.end(runtime.Outcome{Reset: true, Text: "reset"})
}

func (m *machine) end(o runtime.Outcome) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.ended {
		m.ended, m.outcome = true, o
		close(m.done)
	}
}

// Resolved implements runtime.Machine.
func (m *machine) Resolved(uid, gid uint32) {}

// Allow implements runtime.Machine.
func (m *machine) Allow(int) error { return nil }

// Flush implements runtime.Machine.
func (m *machine) Flush() error { return nil }

// Prepare implements runtime.Machine.
func (m *machine) Prepare(ctx context.Context, d *checkpoint.Draft) (*format.Draft, error) {
	return format.Begin(ctx, d.MachineDir(), nil, d.Lifetime())
}

// GiveUp implements runtime.Machine.
func (m *machine) GiveUp() error { return nil }

// Capture implements runtime.Machine: the guest has one page of memory.
func (m *machine) Capture(ctx context.Context, d *checkpoint.Draft, saved *format.Draft) error {
	if err := m.cfg.CopyDisks(ctx, d); err != nil {
		return err
	}
	h := format.Header{Kind: format.Full, VCPUs: m.cfg.VCPUs, MaxVCPUs: m.cfg.MaxVCPUs, Regions: []format.Region{{Size: format.PageSize}}}
	return saved.Capture(ctx, h, nil, format.Slices{make([]byte, format.PageSize)})
}

// Manifest implements runtime.Machine.
func (m *machine) Manifest() checkpoint.Manifest { return m.cfg.Manifest() }

// Allowed implements runtime.Machine.
func (m *machine) Allowed() int { return m.cfg.VCPUs }

// Memory implements runtime.Machine.
func (m *machine) Memory() runtime.Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.memory
}

// SetMemory implements runtime.Machine.
func (m *machine) SetMemory(mib int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.memory.TargetMiB = mib
	if mib > m.memory.CurrentMiB || !m.guest.KeepsMemory {
		m.memory.CurrentMiB = mib
	}
	return nil
}

// Done implements runtime.Machine.
func (m *machine) Done() <-chan struct{} { return m.done }

// Outcome implements runtime.Machine.
func (m *machine) Outcome() runtime.Outcome {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.outcome
}

// Stop implements runtime.Machine.
func (m *machine) Stop() {
	_ = m.agent.Resume()
	m.end(runtime.Outcome{Stopped: true, Text: "stopped"})
}

// Pause implements runtime.Machine.
func (m *machine) Pause() error { return m.agent.Pause() }

// Resume implements runtime.Machine.
func (m *machine) Resume() error { return m.agent.Resume() }

// Close implements runtime.Machine.
func (m *machine) Close() error {
	m.Stop()
	m.mu.Lock()
	for _, c := range m.conns {
		_ = c.Close()
	}
	m.mu.Unlock()
	m.wg.Wait()
	return nil
}

// Stats implements runtime.Machine.
func (m *machine) Stats() runtime.Stats { return runtime.Stats{} }

// socketPair is a stream whose ends can be closed for writing alone, as vsock's can.
func socketPair() (a, b net.Conn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return nil, nil, err
	}
	var conns [2]net.Conn
	for i, fd := range fds {
		unix.CloseOnExec(fd)
		f := os.NewFile(uintptr(fd), "guest")
		c, connErr := net.FileConn(f)
		err = errors.Join(err, connErr, f.Close())
		conns[i] = c
	}
	return conns[0], conns[1], err
}
