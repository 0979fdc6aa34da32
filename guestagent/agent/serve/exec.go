//go:build linux

package serve

import (
	"os"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/guestagent/agent/account"
	"github.com/gomsb/gomsb/guestagent/agent/environ"
	"github.com/gomsb/gomsb/guestagent/agent/reap"
	"github.com/gomsb/gomsb/guestagent/agent/spawn"
	"github.com/gomsb/gomsb/guestagent/proto"
)

// execSession is a running command. It ends when its outputs have ended and the process
// is collected.
type execSession struct {
	s       *Server
	id      uint32
	process *reap.Process
	tty     *os.File // the terminal's master; nil with pipes
	input   *input
	gate    *gate

	mu    sync.Mutex
	parts int  // outputs and the process itself, as far as not ended; protected by mu
	code  int  // exit code; protected by mu
	muted bool // nobody listens; protected by mu
}

// exec starts a command. The answer is exec.started or exec.failed.
func (s *Server) exec(m proto.Message) {
	gate := s.newGate(m.ID)
	var req proto.ExecRequest
	if !s.decode(m, &req) {
		return
	}
	c, err := s.command(&req)
	if err != nil {
		_ = s.send(m.ID, proto.TypeExecFailed, failure(err))
		return
	}
	e := &execSession{s: s, id: m.ID, gate: gate}
	var outputs [2]*os.File
	if req.TTY {
		outputs, err = e.startTTY(c, req.Rows, req.Cols)
	} else {
		outputs, err = e.startPipes(c)
	}
	if err != nil {
		_ = s.send(m.ID, proto.TypeExecFailed, failure(err))
		return
	}
	s.register(e)
	_ = s.send(m.ID, proto.TypeExecStarted, proto.ExecStarted{PID: uint32(e.process.PID())})
	go e.pump(outputs[0], proto.TypeExecStdout)
	if outputs[1] != nil {
		go e.pump(outputs[1], proto.TypeExecStderr)
	}
}

func failure(err error) proto.ExecFailed {
	if f, ok := err.(*spawn.Failure); ok {
		return f.Payload()
	}
	return spawn.UserFailure(err).Payload()
}

// register makes the session known. A session that had the id before goes on unheard; it
// counts as active until it ends all the same.
func (s *Server) register(e *execSession) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.execs[e.id]; old != nil {
		old.mute()
	}
	s.execs[e.id] = e
	s.activity.execs.Add(1)
}

func (s *Server) session(id uint32) *execSession {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.execs[id]
}

// command translates a request.
func (s *Server) command(req *proto.ExecRequest) (*spawn.Command, error) {
	c := &spawn.Command{
		Name: req.Cmd, Args: req.Args, Dir: s.cfg.DefaultCwd, TTY: req.TTY, Restricted: s.cfg.Restricted,
	}
	if req.Cwd != nil {
		c.Dir = *req.Cwd
	}
	user := s.cfg.DefaultUser
	if req.User != nil && strings.TrimSpace(*req.User) != "" {
		user = *req.User
	}
	home := ""
	if user != "" {
		id, err := s.cfg.Accounts.Resolve(user)
		if err != nil {
			return nil, err
		}
		c.Identity, home = &id, id.Home
	}
	c.Env = environ.Overlay(s.cfg.Env, req.Env)
	if _, set := environ.Lookup(req.Env, "HOME"); !set {
		if user == "" {
			home = rootHome(s.cfg.Accounts)
		}
		if home != "" {
			c.Env = environ.Set(c.Env, "HOME="+home)
		}
	}
	for _, r := range req.Rlimits {
		if n, ok := proto.RlimitNumber(r.Resource); ok {
			c.Rlimits = append(c.Rlimits, spawn.Rlimit{Resource: n, Soft: r.Soft, Hard: r.Hard})
		}
	}
	return c, nil
}

// rootHome is the home of uid 0, "" if no file says.
func rootHome(d account.Database) string {
	e, ok, err := d.ByUID(0)
	if err != nil || !ok {
		return ""
	}
	return e.Home
}

// startPipes starts the command with three pipes.
func (e *execSession) startPipes(c *spawn.Command) (outputs [2]*os.File, err error) {
	var pipes [3][2]int // of 0, 1 and 2; the command's end is the first of 0, else the second
	for n := range pipes {
		if err := unix.Pipe2(pipes[n][:], unix.O_CLOEXEC); err != nil {
			for _, p := range pipes[:n] {
				closeAll(p[:])
			}
			return outputs, spawn.PipeFailure(c.Name, err)
		}
	}
	c.Stdio = [3]int{pipes[0][0], pipes[1][1], pipes[2][1]}
	err = e.start(c, 2)
	closeAll(c.Stdio[:])
	if err != nil {
		closeAll([]int{pipes[0][1], pipes[1][0], pipes[2][0]})
		return outputs, err
	}
	e.input = newPipeInput(e, pipes[0][1])
	return [2]*os.File{pollable(pipes[1][0], "stdout"), pollable(pipes[2][0], "stderr")}, nil
}

// startTTY starts the command on a terminal.
func (e *execSession) startTTY(c *spawn.Command, rows, cols uint16) (outputs [2]*os.File, err error) {
	master, slave, err := spawn.OpenPTY(rows, cols)
	if err != nil {
		return outputs, spawn.PTYFailure(err)
	}
	c.Stdio = [3]int{slave, slave, slave}
	err = e.start(c, 1)
	closeAll([]int{slave})
	if err != nil {
		closeAll([]int{master})
		return outputs, err
	}
	e.tty = pollable(master, "terminal")
	e.input = newTTYInput(e, e.tty)
	return [2]*os.File{e.tty}, nil
}

// start starts the command, whose end is the end of the process and of as many outputs.
func (e *execSession) start(c *spawn.Command, outputs int) (err error) {
	e.parts = 1 + outputs
	e.process, err = e.s.cfg.Reaper.Start(func() (int, error) {
		pid, err := spawn.Start(c)
		if err == nil && e.s.cfg.UnscoreOOM {
			spawn.UnscoreOOM(pid)
		}
		return pid, err
	}, func(code int) {
		e.mu.Lock()
		e.code = code
		e.mu.Unlock()
		go e.partEnded() // may write, which the reaper must not wait for
	})
	return err
}

// pollable makes a file of a descriptor that waits in the runtime's poller.
func pollable(fd int, name string) *os.File {
	// Plain F_SETFL, since none of our descriptors has other flags to keep.
	_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETFL, unix.O_NONBLOCK)
	return os.NewFile(uintptr(fd), name)
}

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}

// partEnded ends the session with its last part.
func (e *execSession) partEnded() {
	e.mu.Lock()
	e.parts--
	last, code, muted := e.parts == 0, e.code, e.muted
	e.mu.Unlock()
	if !last {
		return
	}
	s := e.s
	s.mu.Lock()
	if s.execs[e.id] == e {
		delete(s.execs, e.id)
	}
	s.mu.Unlock()
	s.activity.execs.Add(-1)
	e.process.Release()
	e.input.stop()
	if !muted {
		_ = s.send(e.id, proto.TypeExecExited, proto.ExecExited{Code: int32(code)})
	}
}

// mute drops everything the command still says. The command itself does not notice.
func (e *execSession) mute() {
	e.mu.Lock()
	e.muted = true
	e.mu.Unlock()
	e.gate.open()
}

func (s *Server) execSignal(m proto.Message) {
	var p proto.ExecSignal
	if !s.decode(m, &p) || p.Signal < 1 || p.Signal > 31 {
		return
	}
	if e := s.session(m.ID); e != nil {
		e.process.Signal(syscall.Signal(p.Signal))
	}
}

func (s *Server) execResize(m proto.Message) {
	var p proto.ExecResize
	if !s.decode(m, &p) {
		return
	}
	e := s.session(m.ID)
	if e == nil || e.tty == nil {
		return
	}
	if raw, err := e.tty.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _ = spawn.Resize(int(fd), p.Rows, p.Cols) })
	}
}
