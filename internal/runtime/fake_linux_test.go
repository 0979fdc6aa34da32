package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/guestagent/proto"
	"github.com/gomsb/gomsb/internal/checkpoint"
	"github.com/gomsb/gomsb/internal/runtime/guesttest"
	"github.com/gomsb/gomsb/internal/template"
	"github.com/gomsb/gomsb/snapshot/format"
)

// machineEnv makes the test binary a runtime over a fake machine, which it describes.
const machineEnv = "GOMSB_TEST_MACHINE"

func TestMain(m *testing.M) {
	if text := os.Getenv(machineEnv); text != "" {
		os.Exit(fakeMain(text))
	}
	goleak.VerifyTestMain(m)
}

func fakeMain(text string) int {
	var plan fakePlan
	if err := json.Unmarshal([]byte(text), &plan); err != nil {
		panic(err)
	}
	p := program{build: plan.build, timeout: 30 * time.Second}
	if plan.ReadyTimeoutMS > 0 {
		p.timeout = time.Duration(plan.ReadyTimeoutMS) * time.Millisecond
	}
	return p.main(os.Args[2:])
}

// fakePlan says how a fake machine behaves.
type fakePlan struct {
	BuildError     string           // instead of a machine
	BuildPanic     bool             // a defect of the runtime itself
	StartError     string           // instead of a start
	NoAgent        bool             // nobody ever connects
	DiesAtBoot     bool             // resets before the agent connects
	BootFailure    *proto.CoreError // the agent's
	Raw            []byte           // sent instead of what an agent says
	NeverReady     bool             // the agent's
	IgnoreStop     bool             // the agent's
	HangsAtStop    bool             // the agent goes, the machine does not
	FlushMS        int              // how long it writes to its disks after that
	ResetsAtStop   bool             // the machine ends by a reset, not by a power-off
	BeatMS         int              // interval of heartbeats, 50 ms by default
	ReadyTimeoutMS int              // of the runtime
	Busy           int              // so many times it cannot be saved
	CaptureHangs   bool             // until nobody wants it any more
	CaptureFull    bool             // the disk is full
}

func (p fakePlan) build(cfg MachineConfig) (Machine, error) {
	if p.BuildPanic {
		panic("a defect")
	}
	if p.BuildError != "" {
		return nil, fmt.Errorf("%s: %w", p.BuildError, syscall.EACCES)
	}
	m := &fakeMachine{plan: p, cfg: cfg, done: make(chan struct{}), began: time.Now()}
	m.agent = &guesttest.Agent{BootFailure: p.BootFailure, NeverReady: p.NeverReady, IgnoreStop: p.IgnoreStop, Crash: m.crash}
	return m, nil
}

// fakeMachine is a machine of which only the guest's agent is real.
type fakeMachine struct {
	plan  fakePlan
	cfg   MachineConfig
	agent *guesttest.Agent
	done  chan struct{}
	began time.Time
	wg    sync.WaitGroup

	flushed atomic.Uint64 // bytes
	busy    atomic.Int32  // captures

	mu      sync.Mutex
	ended   bool
	outcome Outcome
	conns   []net.Conn // the guest's ends
}

func (m *fakeMachine) Start() error {
	if m.plan.StartError != "" {
		return errors.New(m.plan.StartError)
	}
	// What it was given shows in kernel.log.
	shown := struct {
		VCPUs, MemoryMiB int
		Disks            []Disk
		Kernel, Words    string
		CacheDir         string
		StatsInterval    time.Duration
		Ephemeral        bool
	}{m.cfg.VCPUs, m.cfg.MemoryMiB, m.cfg.Disks, m.cfg.Kernel, m.cfg.Words, m.cfg.CacheDir, m.cfg.StatsInterval, m.cfg.Ephemeral()}
	text, err := json.Marshal(shown)
	if err != nil {
		return err
	}
	fmt.Fprintf(m.cfg.Console, "machine %s\r\n", text)
	m.wg.Go(m.boot)
	return nil
}

func (m *fakeMachine) Pause() error            { return m.agent.Pause() }
func (m *fakeMachine) Resume() error           { return m.agent.Resume() }
func (m *fakeMachine) Allow(int) error         { return nil }
func (m *fakeMachine) Allowed() int            { return m.cfg.VCPUs }
func (m *fakeMachine) Ready()                  {}
func (m *fakeMachine) Settled()                {}
func (m *fakeMachine) Discredit()              { fmt.Fprint(m.cfg.Console, "discredited\r\n") }
func (m *fakeMachine) Copied() bool            { return false }
func (m *fakeMachine) Wanted() *template.Shape { return nil }

// Flush implements Machine.
func (m *fakeMachine) Flush() error { return nil }

// Capture implements Machine: the guest has one page of memory.
func (m *fakeMachine) Prepare(ctx context.Context, d *checkpoint.Draft) (*format.Draft, error) {
	return format.Begin(ctx, d.MachineDir(), nil, d.Lifetime())
}

// GiveUp implements Machine.
func (m *fakeMachine) GiveUp() error {
	fmt.Fprint(m.cfg.Console, "given up\r\n")
	return nil
}

func (m *fakeMachine) Manifest() checkpoint.Manifest { return m.cfg.Manifest() }

func (m *fakeMachine) Capture(ctx context.Context, d *checkpoint.Draft, saved *format.Draft) error {
	if m.busy.Add(1) <= int32(m.plan.Busy) {
		return fmt.Errorf("%w: it waits for a lock", ErrBusy)
	}
	if err := m.cfg.CopyDisks(ctx, d); err != nil {
		return err
	}
	if m.plan.CaptureHangs {
		fmt.Fprint(m.cfg.Console, "it is saved\r\n")
		<-ctx.Done()
		return fmt.Errorf("write memory: %w", context.Cause(ctx))
	}
	if m.plan.CaptureFull {
		return fmt.Errorf("write memory: %w", syscall.ENOSPC)
	}
	h := format.Header{Kind: format.Full, VCPUs: m.cfg.VCPUs, MaxVCPUs: m.cfg.MaxVCPUs, Regions: []format.Region{{Size: format.PageSize}}}
	return saved.Capture(ctx, h, nil, format.Slices{make([]byte, format.PageSize)})
}

func (m *fakeMachine) Memory() Memory {
	return Memory{TargetMiB: m.cfg.MemoryMiB, CurrentMiB: m.cfg.MemoryMiB}
}

func (m *fakeMachine) SetMemory(int) error { return errors.ErrUnsupported }

func (m *fakeMachine) Resolved(uid, gid uint32) {
	fmt.Fprintf(m.cfg.Console, "user %d:%d\r\n", uid, gid)
}

// dial connects the guest to a port of the host.
func (m *fakeMachine) dial(port uint32) (net.Conn, bool) {
	host, guest, err := socketPair()
	if err != nil {
		panic(err)
	}
	m.mu.Lock()
	m.conns = append(m.conns, guest)
	m.mu.Unlock()
	if !m.cfg.Listen(port, host) {
		_ = host.Close()
		return nil, false
	}
	return guest, true
}

func (m *fakeMachine) boot() {
	switch {
	case m.plan.NoAgent:
		return
	case m.plan.DiesAtBoot:
		fmt.Fprint(m.cfg.Console, "Kernel panic - not syncing\n")
		m.end(Outcome{Reset: true, Text: "reset"})
		return
	}
	conn, ok := m.dial(AgentPort)
	if !ok {
		panic("the agent was refused")
	}
	_, second := m.dial(AgentPort)
	_, other := m.dial(9999)
	fmt.Fprintf(m.cfg.Console, "second agent %v, other port %v\n", second, other)
	if m.plan.Raw != nil {
		_, _ = proto.NewReader(conn).ReadFrame()
		_, _ = conn.Write(m.plan.Raw)
		_ = conn.Close()
		return
	}
	if beats, ok := m.dial(HeartbeatPort); ok {
		every := 50
		if m.plan.BeatMS > 0 {
			every = m.plan.BeatMS
		}
		m.wg.Go(func() { m.agent.Beat(beats, time.Duration(every)*time.Millisecond) })
	}
	if m.agent.Serve(conn) != nil {
		return
	}
	for end := time.Now().Add(time.Duration(m.plan.FlushMS) * time.Millisecond); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		m.flushed.Add(4096)
	}
	if !m.plan.HangsAtStop {
		m.end(Outcome{Orderly: !m.plan.ResetsAtStop, Reset: m.plan.ResetsAtStop, Text: "power-off"})
	}
}

// crash ends the machine from inside.
func (m *fakeMachine) crash(how string) {
	m.mu.Lock()
	conn := m.conns[0]
	m.mu.Unlock()
	switch how {
	case "poweroff":
		_ = conn.(*net.UnixConn).CloseWrite()
		m.end(Outcome{Orderly: true, Text: "power-off"})
	case "silent poweroff":
		m.end(Outcome{Orderly: true, Text: "power-off"})
	case "reboot":
		_ = conn.(*net.UnixConn).CloseWrite()
		m.end(Outcome{Reset: true, Text: "reset"})
	case "reset":
		fmt.Fprint(m.cfg.Console, "BUG: unable to handle page fault\n")
		m.end(Outcome{Reset: true, Text: "reset"})
	case "triple fault":
		m.end(Outcome{Text: "triple fault"})
	case "cut":
		_, _ = conn.Write([]byte{0, 0})
		_ = conn.(*net.UnixConn).CloseWrite()
	case "oversized":
		_, _ = conn.Write([]byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0})
	case "goodbye":
		_ = conn.(*net.UnixConn).CloseWrite()
	}
}

func (m *fakeMachine) end(o Outcome) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.ended {
		m.ended, m.outcome = true, o
		close(m.done)
	}
}

func (m *fakeMachine) Done() <-chan struct{} { return m.done }

func (m *fakeMachine) Outcome() Outcome {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.outcome
}

func (m *fakeMachine) Stop() {
	_ = m.agent.Resume()
	m.end(Outcome{Stopped: true, Text: "stopped"})
}

func (m *fakeMachine) Close() error {
	m.Stop()
	m.mu.Lock()
	for _, c := range m.conns {
		_ = c.Close()
	}
	m.mu.Unlock()
	m.wg.Wait()
	return nil
}

func (m *fakeMachine) Stats() Stats {
	return Stats{
		CPUTime: time.Since(m.began) / 2, MemoryKnown: true, MemoryUsed: 100 << 20, MemoryAvailable: 400 << 20,
		DiskRead: 1000, DiskWritten: 2000 + m.flushed.Load(),
	}
}

// socketPair is a stream with an end for each side, both of which can half-close.
func socketPair() (a, b net.Conn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	var conns [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		c, e := net.FileConn(f)
		err = errors.Join(err, e, f.Close())
		conns[i] = c
	}
	return conns[0], conns[1], err
}

// words splits a command line of the fake agent.
func words(line string) (cmd string, args []string) {
	f := strings.Fields(line)
	return f[0], f[1:]
}
