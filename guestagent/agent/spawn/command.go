//go:build linux

package spawn

import (
	"errors"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/guestagent/agent/account"
	"github.com/gomsb/gomsb/internal/sysmon"
)

// Command is one program to start. It becomes leader of a new session and process group.
type Command struct {
	// Name is a path, or a name to look up in the PATH of Env.
	Name string
	// Args are the arguments after the name.
	Args []string
	// Env is the whole environment, "K=V".
	Env []string
	// Dir is the working directory; "" is the agent's, which is /.
	Dir string
	// Identity is the user to switch to; nil stays root.
	Identity *account.Identity
	// Rlimits are set after the switch.
	Rlimits []Rlimit
	// Restricted takes CAP_SYS_ADMIN and new privileges away.
	Restricted bool
	// TTY makes Stdio[0] the controlling terminal. A Dir that cannot be entered is then
	// ignored.
	TTY bool
	// Stdio are the descriptors that become 0, 1 and 2. They stay open here.
	Stdio [3]int
}

// Rlimit is one resource limit by its Linux number.
type Rlimit struct {
	Resource int    `cbor:"resource"`
	Soft     uint64 `cbor:"soft"`
	Hard     uint64 `cbor:"hard"`
}

// Start starts the command and returns its process id. An error is a *[Failure].
func Start(c *Command) (pid int, err error) {
	if f := c.check(); f != nil {
		return 0, f
	}
	if f := c.checkDir(); f != nil {
		return 0, f
	}
	if len(c.Rlimits) > 0 || c.Restricted {
		return c.startByHelper()
	}
	pid, err = c.startDirect()
	if errors.Is(err, unix.EACCES) && c.Identity != nil && c.Dir != "" {
		// Perhaps only root may enter Dir: the helper does so before it switches.
		return c.startByHelper()
	}
	if err != nil {
		return 0, c.failed(stageExec, errnoOf(err))
	}
	return pid, nil
}

// check refuses what no system call can take.
func (c *Command) check() *Failure {
	for _, s := range [...][]string{{c.Name, c.Dir}, c.Args, c.Env} {
		for _, text := range s {
			if strings.IndexByte(text, 0) >= 0 {
				return sessionFailure("a NUL byte in the command, its arguments, directory or environment")
			}
		}
	}
	return nil
}

// checkDir finds out early whether Dir exists, since a fork cannot tell which of its
// steps failed.
func (c *Command) checkDir() *Failure {
	if c.Dir == "/" {
		c.Dir = ""
	}
	if c.Dir == "" {
		return nil
	}
	var st unix.Stat_t
	err := unix.Stat(c.Dir, &st)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		err = unix.ENOTDIR
	}
	switch {
	case err == nil:
		return nil
	case c.TTY:
		c.Dir = ""
		return nil
	}
	return c.failed(stageDir, errnoOf(err))
}

// startDirect forks and executes without a helper.
func (c *Command) startDirect() (pid int, err error) {
	attr := c.attributes([]uintptr{uintptr(c.Stdio[0]), uintptr(c.Stdio[1]), uintptr(c.Stdio[2])})
	attr.Dir, attr.Env = c.Dir, c.Env
	if id := c.Identity; id != nil {
		attr.Sys.Credential = &syscall.Credential{Uid: id.UID, Gid: id.GID, Groups: id.Groups}
	}
	argv := c.argv()
	err = eachCandidate(c.Name, pathOf(c.Env), func(path string) error {
		if err := reachable(path, c.Dir); err != nil {
			return err
		}
		pid, err = forkExec(path, argv, attr)
		return err
	})
	return pid, err
}

// forkExec gives the new program the usual timer slack: it inherits that of the thread, and
// one that Go's monitor has started has the monitor's.
func forkExec(path string, argv []string, attr *syscall.ProcAttr) (pid int, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(sysmon.UsualSlack.Nanoseconds()), 0, 0, 0); err != nil {
		return 0, err
	}
	return syscall.ForkExec(path, argv, attr)
}

func (c *Command) argv() []string { return append([]string{c.Name}, c.Args...) }

// attributes are those of both ways of starting.
func (c *Command) attributes(files []uintptr) *syscall.ProcAttr {
	return &syscall.ProcAttr{Files: files, Sys: &syscall.SysProcAttr{Setsid: true, Setctty: c.TTY}}
}

func errnoOf(err error) unix.Errno {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return unix.EINVAL
}
