//go:build linux

package spawn

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// helperName is argv[0] of the helper.
const helperName = "agentd-helper"

// Descriptors of the helper beside the command's own.
const (
	planFD   = 3 // to read the plan from
	reportFD = 4 // to write the failure to
)

// self is this program, however the root file system changed since its start.
const self = "/proc/self/exe"

// plan is what the helper is told.
type plan struct {
	Name       string   `cbor:"name"`
	Args       []string `cbor:"args"`
	Env        []string `cbor:"env"`
	Dir        string   `cbor:"dir"`
	AnyDir     bool     `cbor:"any_dir"` // go on if Dir cannot be entered
	Restricted bool     `cbor:"restricted"`
	Switch     bool     `cbor:"switch"` // to the user below
	UID        uint32   `cbor:"uid"`
	GID        uint32   `cbor:"gid"`
	Groups     []uint32 `cbor:"groups"`
	Rlimits    []Rlimit `cbor:"rlimits"`
}

func (c *Command) plan() plan {
	p := plan{
		Name: c.Name, Args: c.argv(), Env: c.Env, Dir: c.Dir, AnyDir: c.TTY,
		Restricted: c.Restricted, Rlimits: c.Rlimits,
	}
	if id := c.Identity; id != nil {
		p.Switch, p.UID, p.GID, p.Groups = true, id.UID, id.GID, id.Groups
	}
	return p
}

// startByHelper starts the helper and returns once it is the command.
func (c *Command) startByHelper() (pid int, err error) {
	orders, err := proto.AppendPayload(nil, c.plan())
	if err != nil {
		return 0, sessionFailure(err.Error())
	}
	var planPipe, reportPipe [2]int
	if err := unix.Pipe2(planPipe[:], unix.O_CLOEXEC); err != nil {
		return 0, c.failed(stageExec, errnoOf(err))
	}
	if err := unix.Pipe2(reportPipe[:], unix.O_CLOEXEC); err != nil {
		closeAll(planPipe[:])
		return 0, c.failed(stageExec, errnoOf(err))
	}
	attr := c.attributes([]uintptr{
		uintptr(c.Stdio[0]), uintptr(c.Stdio[1]), uintptr(c.Stdio[2]),
		planFD: uintptr(planPipe[0]), reportFD: uintptr(reportPipe[1]),
	})
	attr.Env = []string{}
	pid, err = forkExec(self, []string{helperName}, attr)
	closeAll([]int{planPipe[0], reportPipe[1]})
	if err != nil {
		closeAll([]int{planPipe[1], reportPipe[0]})
		return 0, c.failed(stagePlan, errnoOf(err))
	}
	writeErr := writeAll(planPipe[1], orders)
	closeAll(planPipe[1:])
	var report [5]byte
	n := readAll(reportPipe[0], report[:])
	closeAll(reportPipe[:1])
	switch {
	case n == len(report):
		err = c.failed(stage(report[0]), unix.Errno(binary.LittleEndian.Uint32(report[1:])))
	case writeErr != nil:
		err = c.failed(stagePlan, errnoOf(writeErr))
	default:
		return pid, nil
	}
	_ = unix.Kill(pid, unix.SIGKILL) // as a rule it is on its way out by itself
	_, _ = unix.Wait4(pid, nil, 0, nil)
	return 0, err
}

// IsHelper reports that this process was started as a helper: main must call [RunHelper]
// and nothing else.
func IsHelper() bool { return len(os.Args) > 0 && os.Args[0] == helperName }

// RunHelper carries out the plan and becomes the command, or exits.
func RunHelper() {
	// Capabilities, the bounding set and no_new_privs belong to the thread that executes.
	runtime.LockOSThread()
	unix.CloseOnExec(reportFD)
	s, err := carryOut()
	var report [5]byte
	report[0] = byte(s)
	binary.LittleEndian.PutUint32(report[1:], uint32(errnoOf(err)))
	_ = writeAll(reportFD, report[:]) // who would read of it?
	os.Exit(127)
}

// carryOut returns only if a step failed.
func carryOut() (stage, error) {
	orders, err := io.ReadAll(os.NewFile(planFD, "plan"))
	if err != nil {
		return stagePlan, err
	}
	_ = unix.Close(planFD)
	var p plan
	if err := proto.Unmarshal(orders, &p); err != nil {
		return stagePlan, unix.EINVAL
	}
	if p.Dir != "" {
		if err := unix.Chdir(p.Dir); err != nil && !p.AnyDir {
			return stageDir, err
		}
	}
	if p.Restricted {
		if err := restrict(); err != nil {
			return stageProfile, err
		}
	}
	if p.Switch {
		if err := switchUser(p.UID, p.GID, p.Groups); err != nil {
			return stageUser, err
		}
	}
	for _, r := range p.Rlimits {
		// Not x/sys: the syscall package restores the file limit that it raised itself
		// unless it sees that somebody set it.
		if err := syscall.Setrlimit(r.Resource, &syscall.Rlimit{Cur: r.Soft, Max: r.Hard}); err != nil {
			return stageRlimit, err
		}
	}
	err = eachCandidate(p.Name, pathOf(p.Env), func(path string) error {
		return syscall.Exec(path, p.Args, p.Env)
	})
	return stageExec, err
}

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}

func writeAll(fd int, p []byte) error {
	for len(p) > 0 {
		n, err := unix.Write(fd, p)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		p = p[max(n, 0):]
	}
	return nil
}

// readAll fills p and returns how much there was.
func readAll(fd int, p []byte) int {
	have := 0
	for have < len(p) {
		n, err := unix.Read(fd, p[have:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			break
		}
		have += n
	}
	return have
}
