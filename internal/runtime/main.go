package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/internal/runtime/journal"
	"github.com/gomsb/gomsb/internal/sysmon"
)

// Exit codes before a run has an ending of its own.
const (
	exitFailed = 1
	exitUsage  = 2
)

// Main is the runtime process: args are those after "sandbox". It returns the exit code,
// and must be called from the main goroutine of a process that does nothing else.
func Main(args []string) int {
	if len(args) > 0 && args[0] == templateCommand {
		return buildTemplate(args[1:])
	}
	p := program{build: newMachine, timeout: readyTimeout}
	return p.main(args)
}

// program is what tests replace parts of.
type program struct {
	build   Factory
	timeout time.Duration
}

func (p *program) main(args []string) int {
	inv, lock, code := admit(args)
	if code != 0 {
		return code
	}
	defer func() { _ = lock.Release() }()
	signals := make(chan os.Signal, 4)
	ignore := []os.Signal{syscall.SIGHUP, syscall.SIGPIPE, syscall.SIGTTOU}
	listen := []os.Signal{syscall.SIGTERM, syscall.SIGUSR1}
	if inv.Attached() {
		ignore = append(ignore, syscall.SIGINT)
	} else {
		listen = append(listen, syscall.SIGINT)
	}
	signal.Ignore(ignore...)
	signal.Notify(signals, listen...)
	if err := announce(inv); err != nil {
		return complain(exitFailed, err)
	}
	tuneProcessors(int(max(inv.VCPUs, inv.MaxVCPUs)))
	var monitor sysmon.Monitor
	_ = monitor.Relax(startSlack) // a favour to the host, which takes a privilege
	// Nothing may go to the standard streams from here on: the parent stops reading.
	logFile, err := redirect(inv.Config.LogDir)
	if err != nil {
		return complain(exitFailed, err)
	}
	defer func() { _ = logFile.Close() }()
	log := slog.New(journal.NewHandler(logFile, journal.Level(inv.LogLevel)))
	s := &sandbox{
		inv: inv, cfg: inv.Config, log: log, build: p.build, getenv: os.Getenv, timeout: p.timeout,
		signals: signals, pid: os.Getpid(), relax: func() { _ = monitor.Relax(monitorSlack) },
	}
	log.Info("sandbox runtime starts", "name", inv.Name, "id", inv.SandboxID, "vcpus", inv.VCPUs, "memory_mib", inv.MemoryMiB)
	return s.run(context.Background())
}

// admit does everything that may still end in a usage error.
func admit(args []string) (*launch.Invocation, *launch.Lock, int) {
	inv, err := launch.Parse(args)
	if err == nil {
		err = inv.Load()
	}
	if err != nil {
		return nil, nil, complain(exitUsage, err)
	}
	var lock *launch.Lock
	if inv.LifecycleLockFD >= 0 {
		lock, err = launch.InheritedLock(inv.LifecycleLockFD)
	} else {
		lock, err = launch.AcquireLock(inv.Config.Run(), inv.Name)
	}
	if err != nil {
		return nil, nil, complain(exitFailed, err)
	}
	return inv, lock, 0
}

// complain tells the parent's standard error why there is no sandbox.
func complain(code int, err error) int {
	_, _ = fmt.Fprintf(os.Stderr, "sandbox error: %v\n", err)
	return code
}

// announce says that the process runs, on standard output or on the start-up descriptor.
func announce(inv *launch.Invocation) error {
	out := os.Stdout
	if inv.StartupFD >= 0 {
		out = os.NewFile(uintptr(inv.StartupFD), "startup")
	}
	line, err := json.Marshal(struct {
		PID int `json:"pid"`
	}{os.Getpid()})
	if err != nil {
		return err
	}
	_, err = out.Write(append(line, '\n'))
	if inv.StartupFD >= 0 {
		err = errors.Join(err, out.Close())
	}
	if err != nil {
		return fmt.Errorf("report the start: %w", err)
	}
	return nil
}

// redirect points standard output to /dev/null and standard error to runtime.log, which
// it returns; after a rotation too.
func redirect(logDir string) (*journal.File, error) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = null.Close() }()
	if err := os.MkdirAll(logDir, 0o755); err != nil {
		return nil, err
	}
	standardError := func(f *os.File) error { return duplicate(f, 2) }
	f, err := journal.Open(filepath.Join(logDir, "runtime.log"), standardError)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(f.Fd(standardError), duplicate(null, 1)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// tuneMemory keeps the heap small, and gives memory that only the start needed back to the
// host: this process lives as long as its guest, there are many of them, and what it
// allocates in steady state is pooled. A start is quicker without.
func tuneMemory() {
	debug.SetGCPercent(25)
	debug.FreeOSMemory()
}

// monitorSlack is how much later than it could Go's monitor may look after the process. An
// idle sandbox wakes up three times a second, and it would look some 30 times each time; a
// request through the gateway is little else but short wake-ups. So much longer, at most, a
// goroutine waits for the processor of one whose system call takes more than a moment; until
// the guest beats, when there is much to do at once, less.
const (
	monitorSlack = 4 * time.Millisecond
	startSlack   = 200 * time.Microsecond
)

// tuneProcessors gives each virtual processor a processor of Go's, and one to all else: a
// virtual one's thread holds one while it is in the guest. With none left, what a device has
// to do waits until Go's monitor has taken one back, which it looks at every 20 µs to 10 ms.
// More than these are left as they are: they only spread one packet's steps over threads.
func tuneProcessors(vcpus int) { runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), vcpus+1)) }
