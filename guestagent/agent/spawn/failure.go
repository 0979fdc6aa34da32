//go:build linux

package spawn

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// stage is the step of a start that failed.
type stage uint8

const (
	stageExec stage = iota + 1
	stageDir
	stageProfile
	stageUser
	stageRlimit
	stagePlan // the helper did not get its orders
)

// Failure says why a command did not start.
type Failure struct {
	Kind    proto.ExecFailureKind
	Errno   unix.Errno // 0 if no system call failed
	Message string
	Stage   string // "" if no system call failed
}

func (f *Failure) Error() string { return f.Message }

// Payload is the failure as the protocol has it.
func (f *Failure) Payload() proto.ExecFailed {
	p := proto.ExecFailed{Kind: f.Kind, Message: f.Message}
	if f.Errno != 0 {
		n := int32(f.Errno)
		p.Errno, p.ErrnoName = &n, proto.ExecErrnoName(int(n))
	}
	if f.Stage != "" {
		p.Stage = &f.Stage
	}
	return p
}

// failed describes a system call that failed. The stage texts are the protocol's; those
// of steps that official agents do not tell apart are our own.
func (c *Command) failed(s stage, errno unix.Errno) *Failure {
	f := &Failure{
		Kind: proto.ExecFailureOf(int(errno)), Errno: errno, Stage: "Command::spawn",
		Message: fmt.Sprintf("spawn %q: %s", c.Name, proto.ErrnoText(int(errno))),
	}
	if c.TTY {
		f.Stage = "execvp"
	}
	switch s {
	case stageDir:
		f.Kind, f.Stage = proto.FailBadCwd, "chdir"
		f.Message = fmt.Sprintf("spawn %q: working directory %q: %s", c.Name, c.Dir, proto.ErrnoText(int(errno)))
	case stageProfile:
		f.Kind, f.Stage = proto.FailUserSetup, "security_profile"
	case stageUser:
		f.Kind, f.Stage = proto.FailUserSetup, "setuid"
	case stageRlimit:
		f.Stage = "setrlimit"
	case stagePlan:
		f.Kind, f.Stage = proto.FailOther, "helper"
	}
	return f
}

// sessionFailure is a failure before anything was started.
func sessionFailure(text string) *Failure {
	return &Failure{Kind: proto.FailOther, Message: "exec session error: " + text}
}

// UserFailure describes a user that could not be found. Official agents say the same by
// the kind "other", for which no client has advice.
func UserFailure(err error) *Failure {
	f := sessionFailure(err.Error())
	f.Kind = proto.FailUserSetup
	return f
}

// PTYFailure describes a terminal that could not be made.
func PTYFailure(err error) *Failure {
	f := &Failure{Kind: proto.FailPtySetup, Stage: "openpty", Message: "open a terminal: " + err.Error()}
	var errno unix.Errno
	if errors.As(err, &errno) {
		f.Errno, f.Message = errno, "open a terminal: "+proto.ErrnoText(int(errno))
	}
	return f
}

// PipeFailure describes pipes that could not be made.
func PipeFailure(name string, err error) *Failure {
	c := Command{Name: name}
	return c.failed(stageExec, errnoOf(err))
}
