package sshd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"strings"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

	"github.com/gomsb/gomsb/guestagent/client"
)

// maxEnv bounds the variables a client may set, bytes with their names.
const maxEnv = 64 << 10

// Exit codes of commands that did not run to their own end.
const (
	codeSignalled  = 255 // as the OpenSSH client reports one
	codeNotAllowed = 126
	codeNotStarted = 127
)

// session is a session channel (RFC 4254, 6): one command, shell or subsystem.
type session struct {
	*connection
	channel ssh.Channel
	env     []string
	envSize int
	pty     *pty         // nil: no terminal
	exec    *client.Exec // nil until a command runs
	begun   bool         // a command or subsystem was asked for
}

// pty is the payload of pty-req.
type pty struct {
	Term          string
	Cols, Rows    uint32
	Width, Height uint32 // pixels
	Modes         string
}

// window is the payload of window-change.
type window struct{ Cols, Rows, Width, Height uint32 }

// session serves a session channel until it is closed.
func (c *connection) session(ctx context.Context, ch ssh.NewChannel) {
	channel, requests, err := ch.Accept()
	if err != nil {
		return
	}
	s := &session{connection: c, channel: channel}
	for r := range requests {
		ok := s.handle(ctx, r)
		if r.WantReply {
			_ = r.Reply(ok, nil)
		}
		if ok {
			s.run(ctx, r)
		}
	}
	// The client has closed the channel. What reads its terminal hears that it hung up.
	if s.exec != nil {
		_ = s.exec.Signal(ctx, signals["HUP"])
		s.exec.Close()
	}
	_ = channel.Close()
}

// handle reports whether a request is granted; run does what it asks for.
func (s *session) handle(ctx context.Context, r *ssh.Request) bool {
	switch r.Type {
	case "env":
		return s.setEnv(r.Payload)
	case "pty-req":
		p := &pty{}
		if s.begun || ssh.Unmarshal(r.Payload, p) != nil || strings.ContainsRune(p.Term, 0) {
			return false
		}
		s.pty = p
		return true
	case "window-change":
		var w window
		if ssh.Unmarshal(r.Payload, &w) != nil || s.exec == nil || s.pty == nil {
			return false
		}
		return s.exec.Resize(ctx, cells(w.Rows), cells(w.Cols)) == nil
	case "signal":
		var name struct{ Name string }
		if ssh.Unmarshal(r.Payload, &name) != nil || s.exec == nil || signals[name.Name] == 0 {
			return false
		}
		return s.exec.Signal(ctx, signals[name.Name]) == nil
	case "shell", "exec", "subsystem":
		if s.begun || !s.offered(r) {
			return false
		}
		s.begun = true
		return true
	}
	return false
}

// text is the payload of exec and subsystem.
type text struct{ Value string }

func (s *session) offered(r *ssh.Request) bool {
	var t text
	switch r.Type {
	case "exec":
		return ssh.Unmarshal(r.Payload, &t) == nil && !strings.ContainsRune(t.Value, 0)
	case "subsystem":
		return s.cfg.SFTP && ssh.Unmarshal(r.Payload, &t) == nil && t.Value == "sftp"
	}
	return true
}

// setEnv takes a variable unless its name is none or is the agent's own.
func (s *session) setEnv(payload []byte) bool {
	var v struct{ Name, Value string }
	if ssh.Unmarshal(payload, &v) != nil || s.begun {
		return false
	}
	s.envSize += len(payload)
	if v.Name == "" || strings.ContainsAny(v.Name, "=\x00") || strings.HasPrefix(v.Name, "MSB_") || strings.ContainsRune(v.Value, 0) || s.envSize > maxEnv {
		return false
	}
	s.env = append(s.env, v.Name+"="+v.Value)
	return true
}

// run starts the command or subsystem that was granted; it goes on while further requests
// are handled. Other requests start nothing.
func (s *session) run(ctx context.Context, r *ssh.Request) {
	var t text
	_ = ssh.Unmarshal(r.Payload, &t) // offered has looked
	switch r.Type {
	case "subsystem":
		s.work.Go(func() {
			f := &files{ctx: ctx, agent: s.agent, start: s.start()}
			server := sftp.NewRequestServer(s.channel, sftp.Handlers{FileGet: f, FilePut: f, FileCmd: f, FileList: f}, sftp.WithStartDirectory(f.start))
			err := server.Serve()
			_ = server.Close()
			code := 0
			if err != nil && !errors.Is(err, io.EOF) {
				code = 1
			}
			s.exit(code)
		})
	case "exec":
		s.command(ctx, "-c", t.Value)
	case "shell":
		s.command(ctx)
	}
}

func (s *session) start() string {
	if s.cfg.Dir == "" {
		return "/"
	}
	return s.cfg.Dir
}

// command runs the shell with args.
func (s *session) command(ctx context.Context, args ...string) {
	cmd := client.Command{Name: s.cfg.Shell, Args: args, Env: s.env, User: s.cfg.User}
	if cmd.User == "" {
		cmd.User = s.user
	}
	errors := s.channel.Stderr()
	if s.pty != nil {
		cmd.TTY, cmd.Rows, cmd.Cols = true, cells(s.pty.Rows), cells(s.pty.Cols)
		cmd.Env = append(cmd.Env, "TERM="+s.pty.Term)
		errors = s.channel
	}
	e, err := s.agent.Exec(ctx, cmd)
	if err != nil {
		fmt.Fprintf(errors, "%v\r\n", err)
		s.exit(startCode(err))
		return
	}
	s.exec = e
	s.work.Go(func() { s.input(e) })
	s.work.Go(func() {
		code, err := e.Copy(ctx, s.channel, errors)
		switch {
		case err != nil:
			_ = s.channel.Close() // nobody knows how the command ends
		case code < 0:
			s.exit(codeSignalled)
		default:
			s.exit(code)
		}
	})
}

// startCode is the exit code for a command that did not start.
func startCode(err error) int {
	if errors.Is(err, fs.ErrPermission) {
		return codeNotAllowed
	}
	return codeNotStarted
}

// endOfInput is what a terminal turns into the end of its reader's input: ctrl-D.
const endOfInput = 4

// input passes what the client sends on, and its end.
func (s *session) input(e *client.Exec) {
	if _, err := io.Copy(e, s.channel); err != nil {
		_, _ = io.Copy(io.Discard, s.channel) // the command takes no more
		return
	}
	if s.pty != nil {
		_, _ = e.Write([]byte{endOfInput})
		return
	}
	_ = e.CloseStdin(context.Background()) // it ends with the connection at the latest
}

// exit reports the exit code and ends the channel.
func (s *session) exit(code int) {
	_, _ = s.channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Code uint32 }{uint32(code)}))
	_ = s.channel.Close()
}

// cells limits a number of character cells to what a terminal can have; 0 is the agent's
// choice.
func cells(n uint32) uint16 { return uint16(min(n, math.MaxUint16)) }

// signals are the names of RFC 4254, 6.10, with Linux numbers.
var signals = map[string]int{
	"HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "ABRT": 6, "FPE": 8, "KILL": 9, "USR1": 10, "SEGV": 11, "USR2": 12, "PIPE": 13, "ALRM": 14, "TERM": 15,
}
