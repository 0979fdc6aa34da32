//go:build linux

package agent

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/guestagent/agent/boot"
	"github.com/gomsb/gomsb/guestagent/agent/environ"
	"github.com/gomsb/gomsb/guestagent/agent/hostlink"
	"github.com/gomsb/gomsb/guestagent/agent/reap"
	"github.com/gomsb/gomsb/guestagent/agent/spawn"
	"github.com/gomsb/gomsb/guestagent/proto"
)

// heirName is argv[0] of the heir.
const heirName = "agentd-heir"

// Descriptors of the heir.
const (
	heirHost  = 3 // the stream to the host
	heirState = 4 // to read its state from
	heirUpper = 5 // the writable layer, if there is one
)

const heirLog = "/run/microsandbox/agentd.log"

// initCandidates are tried in order for "auto".
var initCandidates = [...]string{"/sbin/init", "/lib/systemd/systemd", "/usr/lib/systemd/systemd"}

// handOff starts the heir and becomes the init that the host names. It returns only if
// that fails before the point of no return.
func (a *agent) handOff(h *proto.HandoffInit) error {
	cmd, err := findInit(h.Cmd)
	if err != nil {
		return &boot.Error{Kind: boot.KindConfig, Err: err}
	}
	if h.Cwd != "" {
		if st, err := os.Stat(h.Cwd); err != nil || !st.IsDir() {
			return &boot.Error{Kind: boot.KindConfig, Err: fmt.Errorf("the working directory %q of the init program is no directory", h.Cwd)}
		}
	}
	if err := a.bequeath(); err != nil {
		return &boot.Error{Kind: boot.KindConfig, Err: fmt.Errorf("start the agent beside the init program: %w", err)}
	}
	env := a.state.Env
	for _, v := range h.Env {
		env = environ.Set(env, v.Key+"="+v.Value)
	}
	if h.Cwd != "" {
		if err := unix.Chdir(h.Cwd); err != nil {
			say("enter " + h.Cwd + ": " + err.Error())
			os.Exit(126)
		}
	}
	err = syscall.Exec(cmd, append([]string{cmd}, h.Args...), env)
	say("become " + cmd + ": " + err.Error())
	os.Exit(127)
	return nil
}

// findInit resolves "auto" and checks that the program can be executed.
func findInit(cmd string) (string, error) {
	if cmd != "auto" {
		return cmd, checkInit(cmd)
	}
	for _, c := range initCandidates {
		if checkInit(c) == nil {
			return c, nil
		}
	}
	return "", fmt.Errorf("no init program: none of %v can be executed", initCandidates)
}

func checkInit(cmd string) error {
	st, err := os.Stat(cmd)
	switch {
	case err != nil:
		return fmt.Errorf("init program: %w", err)
	case !st.Mode().IsRegular():
		return fmt.Errorf("init program %s is not a regular file", cmd)
	case st.Mode().Perm()&0o111 == 0:
		return fmt.Errorf("init program %s is not executable", cmd)
	}
	return nil
}

// bequeath starts the heir with everything that serving needs.
func (a *agent) bequeath() error {
	will, err := proto.AppendPayload(nil, a.state)
	if err != nil {
		return err
	}
	fd, err := unix.MemfdCreate("agentd-state", unix.MFD_CLOEXEC)
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(fd), "state")
	defer func() { _ = file.Close() }() // memory only
	if _, err := file.Write(will); err != nil {
		return err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	files := []uintptr{0, 1, 2, heirHost: uintptr(a.host.Load().FD()), heirState: file.Fd()}
	if a.state.Upper {
		files = append(files, uintptr(a.upper))
	}
	_, err = syscall.ForkExec("/proc/self/exe", []string{heirName}, &syscall.ProcAttr{
		Env: []string{}, Files: files, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	return err
}

func isHeir() bool { return len(os.Args) > 0 && os.Args[0] == heirName }

// inherit is the heir's life. It ends with the machine, or when the init wants it to.
func (o Options) inherit() int {
	for fd := heirHost; fd <= heirUpper; fd++ {
		unix.CloseOnExec(fd)
	}
	a := &agent{Options: o, become: boot.Rejoin, reaper: reap.New(), upper: -1, heir: true}
	a.host.Store(hostlink.Adopt(heirHost))
	if err := a.readState(); err != nil {
		say("state of PID 1: " + err.Error())
		return 1
	}
	redirectLog()
	if err := spawn.ProtectFromOOM(); err != nil {
		say("OOM protection: " + err.Error())
	}
	go a.leaveOnSignal()
	err := a.serve()
	if err != nil {
		say(err.Error())
	}
	a.teardown(err == nil)
	return 0
}

func (a *agent) readState() error {
	file := os.NewFile(heirState, "state")
	will, err := io.ReadAll(file)
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	if err := proto.Unmarshal(will, &a.state); err != nil {
		return err
	}
	if a.state.Upper {
		a.upper = heirUpper
	}
	return nil
}

// redirectLog sends messages to a file, since the console is now the init's.
func redirectLog() {
	if err := os.MkdirAll(path.Dir(heirLog), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return
	}
	fd, err := unix.Open(heirLog, unix.O_WRONLY|unix.O_CREAT|unix.O_APPEND|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return
	}
	_ = unix.Dup3(fd, 2, 0)
	_ = unix.Close(fd)
}

// leaveOnSignal says goodbye to the host when the init ends everything.
func (a *agent) leaveOnSignal() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGTERM)
	<-signals
	_ = a.host.Load().CloseWrite()
	os.Exit(0)
}
