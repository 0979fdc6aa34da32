//go:build linux

package agent

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/guestagent/agent/boot"
	"github.com/gomsb/gomsb/guestagent/agent/hostlink"
	"github.com/gomsb/gomsb/guestagent/agent/reap"
	"github.com/gomsb/gomsb/guestagent/agent/serve"
	"github.com/gomsb/gomsb/guestagent/agent/spawn"
	"github.com/gomsb/gomsb/guestagent/proto"
	"github.com/gomsb/gomsb/internal/sysmon"
)

// Options are what differs between the agent and its test programs.
type Options struct {
	// Version is the product's, which the host shows.
	Version string
	// Dial connects to a port of the host.
	Dial func(port uint32) (*hostlink.Conn, error)
}

// Main is the program. It returns only in roles other than PID 1, with the exit code.
func Main(o Options) int {
	begin := sinceBoot()
	switch {
	case spawn.IsHelper():
		spawn.RunHelper()
	case isHeir():
		return o.inherit()
	case os.Getpid() != 1:
		say("this is PID 1 of a microVM and nothing else")
		return 2
	}
	unix.Umask(newFileMask)
	surviveSignals()
	a, err := o.boot(begin)
	if err == nil {
		err = a.serve()
	}
	if err != nil {
		say(err.Error())
	}
	a.teardown(err == nil)
	return 1
}

// newFileMask is the umask of the agent and of all commands.
const newFileMask = 0o022

// agent is one run of PID 1 or of its heir.
type agent struct {
	Options
	host atomic.Pointer[hostlink.Conn] // nil if there is no connection
	// become is boot.Rejoin but for tests.
	become func(host boot.Host, was *proto.Network, log func(string)) (*proto.Network, error)
	reaper *reap.Table
	state  state
	met    time.Duration // since boot, when it began to look for the host
	upper  int           // the directory that state tells of, else -1
	heir   bool          // another program is PID 1
	alone  func()        // ends bootAlone; nil if it has ended
}

// state is what serving needs to know of the boot. An heir gets it from PID 1.
type state struct {
	BootTimeNs  uint64         `cbor:"boot_time_ns"`
	InitTimeNs  uint64         `cbor:"init_time_ns"`
	Env         []string       `cbor:"env"`
	DefaultUser string         `cbor:"default_user"`
	DefaultCwd  string         `cbor:"default_cwd"`
	Restricted  bool           `cbor:"restricted"`
	Upper       bool           `cbor:"upper"` // there is an open directory on the writable layer
	Network     *proto.Network `cbor:"network,omitempty"`
}

// boot connects to the host and turns the guest into the sandbox. The agent returned is
// never nil.
func (o Options) boot(begin time.Duration) (*agent, error) {
	a := &agent{Options: o, become: boot.Rejoin, reaper: reap.New(), upper: -1}
	a.bootAlone()
	res, err := a.meetHost()
	if a.host.Load() == nil {
		return a, err
	}
	if err == nil {
		a.state = state{
			BootTimeNs: uint64(begin), InitTimeNs: uint64(sinceBoot() - a.met), Env: res.Env,
			DefaultUser: res.DefaultUser, DefaultCwd: res.DefaultCwd, Restricted: res.Restricted,
			Upper: res.Upper >= 0, Network: res.Network,
		}
		a.upper = res.Upper
		if res.Handoff != nil {
			a.join()
			err = a.handOff(res.Handoff) // returns only if it failed
		}
	}
	if err != nil {
		a.join()
		a.failed(err)
		return a, fmt.Errorf("boot: %w", err)
	}
	return a, nil
}

// meetHost connects to the host and boots as it says. A guest that was saved while it
// waited for that does so again in each copy.
func (a *agent) meetHost() (res *boot.Result, err error) {
	for {
		a.met = sinceBoot()
		host, err := a.Dial(hostlink.AgentPort)
		if err != nil {
			return nil, err
		}
		a.host.Store(host)
		if res, err = boot.Run(host); !errors.Is(err, boot.ErrCopied) {
			return res, err
		}
		_ = host.Close() // it is broken
	}
}

// lastWords is how long a boot error may take to reach the host, which then ends the
// machine.
const lastWords = 500 * time.Millisecond

// failed tells the host that it cannot have this guest, and waits for it to hang up, or
// for nothing to happen.
func (a *agent) failed(err error) {
	host := a.host.Load()
	boot.Report(host, err)
	if host.SetReadTimeout(lastWords) == nil {
		_, _ = host.Read(make([]byte, 1))
	}
}

// serve serves until the host wants the guest to go, which is nil, or its stream ends. The
// stream of a copy of this guest ends, too, but that goes on with a host of its own.
func (a *agent) serve() error {
	host := a.host.Load()
	if err := host.Async(); err != nil {
		return err
	}
	s := a.newServer(host)
	for {
		err := a.serveHost(s)
		if boot.Copied(err) {
			_ = host.Close() // it is broken
			if host, err = a.rejoin(); err == nil {
				s = s.Succeed(host)
				continue
			}
		}
		s.Terminate()
		if errors.Is(err, serve.ErrShutdown) {
			return nil
		}
		return fmt.Errorf("the host is gone: %w", err)
	}
}

// serveHost says that the guest is ready, and serves.
func (a *agent) serveHost(s *serve.Server) error {
	err := s.Ready(proto.Ready{
		BootTimeNs: a.state.BootTimeNs, InitTimeNs: a.state.InitTimeNs, ReadyTimeNs: uint64(sinceBoot()),
		AgentVersion: a.Version,
	})
	a.join()
	if err != nil {
		return err
	}
	return s.Run()
}

func (a *agent) newServer(host *hostlink.Conn) *serve.Server {
	total, each := queueLimits()
	var monitor sysmon.Monitor
	return serve.New(serve.Config{
		Stream: host, Reaper: a.reaper, Log: say, UnscoreOOM: a.heir, QueueTotal: total, QueueEach: each,
		Heartbeat: func() (io.WriteCloser, error) {
			c, err := a.Dial(hostlink.HeartbeatPort)
			if err != nil {
				return nil, err
			}
			return c, nil
		},
		Beat:  func() { _ = monitor.Relax(monitorSlack) }, // the start is over by the first one; a favour to the host
		Upper: a.upperSpace,
		Env:   a.state.Env, DefaultUser: a.state.DefaultUser, DefaultCwd: a.state.DefaultCwd, Restricted: a.state.Restricted,
	})
}

// monitorSlack is how much later than it could Go's monitor may look after the agent: each
// look of a guest that idles wakes the host up.
const monitorSlack = 4 * time.Millisecond

// upperSpace is how much of the writable layer's file system is used, and free for all.
func (a *agent) upperSpace() (used, free uint64, ok bool) {
	var st unix.Statfs_t
	if a.upper < 0 || unix.Fstatfs(a.upper, &st) != nil || st.Bfree > st.Blocks {
		return 0, 0, false
	}
	size := uint64(st.Frsize)
	return (st.Blocks - st.Bfree) * size, st.Bavail * size, true
}

// How much input may wait in the guest, bytes.
const (
	minQueues = 4 << 20
	maxQueues = 32 << 20
	// queueShare is the part of the memory that all queues may take together: 1/16.
	queueShare = 16
	// queueParts is how many sessions it takes to fill them.
	queueParts = 8
)

// queueLimits sizes the queues by the guest's memory.
func queueLimits() (total, each int) {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err == nil {
		total = int(min(uint64(info.Totalram)*uint64(info.Unit)/queueShare, maxQueues))
	}
	total = max(total, minQueues)
	return total, total / queueParts
}

// sinceBoot is the time since the kernel started.
func sinceBoot() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0 // no kernel that boots here lacks this clock
	}
	return time.Duration(ts.Nano())
}

// say writes to the console.
func say(text string) { _, _ = unix.Write(2, []byte("agentd: "+text+"\n")) }
