package sshd

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pkg/sftp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"

	"github.com/gomsb/gomsb/guestagent/agent/reap"
	"github.com/gomsb/gomsb/guestagent/agent/serve"
	"github.com/gomsb/gomsb/guestagent/client"
	"github.com/gomsb/gomsb/guestagent/proto"
	"github.com/gomsb/gomsb/internal/runtime/guesttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// dialer connects to a guest whose end of the connection serve has.
func dialer(guest func(net.Conn)) func(context.Context) (*client.Client, error) {
	return func(ctx context.Context) (*client.Client, error) {
		near, far := net.Pipe()
		go func() {
			if _, err := far.Write(proto.SlotRange(0).Append(nil)); err == nil {
				guest(far)
			}
			_ = far.Close()
		}()
		return client.New(ctx, near, client.Options{})
	}
}

// fakeGuest runs the commands of guesttest.
func fakeGuest() func(context.Context) (*client.Client, error) {
	return dialer(func(c net.Conn) {
		if proto.NewWriter(c).WriteMessage(0, proto.TypeReady, guesttest.Ready) == nil {
			_ = (&guesttest.Agent{}).Serve(c)
		}
	})
}

// thisMachine is a guest whose agent is the real one and whose files are this machine's.
func thisMachine() func(context.Context) (*client.Client, error) {
	return dialer(func(c net.Conn) {
		s := serve.New(serve.Config{Stream: c, Reaper: reap.New(), SetClock: func(time.Time) error { return nil }})
		if s.Ready(proto.Ready{BootTimeNs: 1, InitTimeNs: 1, ReadyTimeNs: 1, AgentVersion: "test"}) == nil {
			_ = s.Run()
		}
	})
}

// endpoint is a served listener.
type endpoint struct {
	addr   string
	key    ssh.Signer // that is authorized
	host   ssh.PublicKey
	served chan error // results of Serve
}

func listen(t *testing.T, cfg Config) *endpoint {
	t.Helper()
	own, err := NewKey()
	require.NoError(t, err)
	cfg.HostKey, err = NewKey()
	require.NoError(t, err)
	cfg.Authorized = []ssh.PublicKey{own.PublicKey()}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	e := &endpoint{addr: l.Addr().String(), key: own, host: cfg.HostKey.PublicKey(), served: make(chan error, 16)}
	s := New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			e.served <- s.Serve(ctx, c)
		}
	}()
	t.Cleanup(func() {
		cancel()
		_ = l.Close()
		<-done
	})
	return e
}

func (e *endpoint) dial(t *testing.T, key ssh.Signer) (*ssh.Client, error) {
	t.Helper()
	c, err := ssh.Dial("tcp", e.addr, &ssh.ClientConfig{User: "dev", Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, HostKeyCallback: ssh.FixedHostKey(e.host)})
	if err == nil {
		t.Cleanup(func() { _ = c.Close() })
	}
	return c, err
}

func (e *endpoint) connect(t *testing.T) *ssh.Client {
	t.Helper()
	c, err := e.dial(t, e.key)
	require.NoError(t, err)
	return c
}

func open(t *testing.T, c *ssh.Client) *ssh.Session {
	t.Helper()
	s, err := c.NewSession()
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func requested(t *testing.T, out []byte) proto.ExecRequest {
	t.Helper()
	var r proto.ExecRequest
	require.NoError(t, json.Unmarshal(out, &r), string(out))
	return r
}

func TestCommands(t *testing.T) {
	e := listen(t, Config{Dial: fakeGuest(), Shell: "request"})
	c := e.connect(t)
	t.Run("the shell runs a command line", func(t *testing.T) {
		s := open(t, c)
		require.NoError(t, s.Setenv("LANG", "C"))
		assert.Error(t, s.Setenv("MSB_HOME", "/x"), "reserved")
		assert.Error(t, s.Setenv("", "x"))
		assert.Error(t, s.Setenv("BIG", strings.Repeat("x", maxEnv)))
		out, err := s.Output("ls | wc")
		require.NoError(t, err)
		r := requested(t, out)
		assert.Equal(t, "request", r.Cmd)
		assert.Equal(t, []string{"-c", "ls | wc"}, r.Args)
		assert.Equal(t, []string{"LANG=C"}, r.Env)
		assert.Equal(t, "dev", *r.User)
		assert.False(t, r.TTY)
	})
	t.Run("a shell with a terminal", func(t *testing.T) {
		s := open(t, c)
		require.NoError(t, s.RequestPty("vt100", 10, 70000, nil))
		var out strings.Builder
		s.Stdout = &out
		require.NoError(t, s.Shell())
		require.NoError(t, s.Wait())
		r := requested(t, []byte(out.String()))
		assert.Empty(t, r.Args)
		assert.True(t, r.TTY)
		assert.Equal(t, uint16(10), r.Rows)
		assert.Equal(t, uint16(65535), r.Cols)
		assert.Contains(t, r.Env, "TERM=vt100")
	})
	t.Run("one command a channel", func(t *testing.T) {
		s := open(t, c)
		require.NoError(t, s.Start("x"))
		ok, err := s.SendRequest("shell", true, nil)
		if err == nil { // else the channel is closed already
			assert.False(t, ok)
		}
		require.NoError(t, s.Wait())
	})
	t.Run("what is not there is refused", func(t *testing.T) {
		s := open(t, c)
		assert.Error(t, s.RequestSubsystem("sftp"), "not enabled")
		ok, err := s.SendRequest("x11-req", true, nil)
		require.NoError(t, err)
		assert.False(t, ok)
		ok, err = s.SendRequest("exec", true, []byte{0, 0})
		require.NoError(t, err)
		assert.False(t, ok, "payload too short")
		_, _, err = c.OpenChannel("x11", nil)
		assert.ErrorContains(t, err, "not supported")
		ok, _, err = c.SendRequest("tcpip-forward", true, nil)
		require.NoError(t, err)
		assert.False(t, ok)
	})
}

// exitStatus is a command's status.
func exitStatus(t *testing.T, err error) int {
	t.Helper()
	if err == nil {
		return 0
	}
	var exit *ssh.ExitError
	require.ErrorAs(t, err, &exit)
	return exit.ExitStatus()
}

func TestEndings(t *testing.T) {
	run := func(t *testing.T, shell string, do func(*ssh.Session) error) (code int, stderr string) {
		t.Helper()
		e := listen(t, Config{Dial: fakeGuest(), Shell: shell, User: "fixed"})
		s := open(t, e.connect(t))
		var text strings.Builder
		s.Stderr = &text
		return exitStatus(t, do(s)), text.String()
	}
	shell := func(s *ssh.Session) error {
		if err := s.Shell(); err != nil {
			return err
		}
		return s.Wait()
	}
	t.Run("stderr is apart", func(t *testing.T) {
		code, text := run(t, "warn", func(s *ssh.Session) error { return s.Run("oops") })
		assert.Zero(t, code)
		assert.Equal(t, "-c oops\n", text)
	})
	t.Run("no such shell", func(t *testing.T) {
		code, text := run(t, "nowhere", shell)
		assert.Equal(t, codeNotStarted, code)
		assert.Contains(t, text, "no nowhere")
	})
	t.Run("input and its end", func(t *testing.T) {
		code, _ := run(t, "cat", func(s *ssh.Session) error {
			s.Stdin = strings.NewReader("hello")
			var out strings.Builder
			s.Stdout = &out
			err := shell(s)
			assert.Equal(t, "hello", out.String())
			return err
		})
		assert.Zero(t, code)
	})
	t.Run("signal", func(t *testing.T) {
		code, _ := run(t, "sleep", func(s *ssh.Session) error {
			require.NoError(t, s.Shell())
			require.NoError(t, s.Signal(ssh.SIGTERM))
			return s.Wait()
		})
		assert.Equal(t, codeSignalled, code)
	})
}

func TestStrangersStayOutside(t *testing.T) {
	e := listen(t, Config{Dial: fakeGuest(), Shell: "echo"})
	stranger, err := NewKey()
	require.NoError(t, err)
	_, err = e.dial(t, stranger)
	require.ErrorContains(t, err, "unable to authenticate")
	assert.ErrorContains(t, <-e.served, "SSH handshake")
	_, err = ssh.Dial("tcp", e.addr, &ssh.ClientConfig{User: "dev", Auth: []ssh.AuthMethod{ssh.Password("")}, HostKeyCallback: ssh.FixedHostKey(e.host)})
	require.Error(t, err)
	assert.Error(t, <-e.served)
	raw, err := net.Dial("tcp", e.addr)
	require.NoError(t, err)
	_, err = raw.Write([]byte("GET / HTTP/1.1\r\n\r\n\r\n"))
	require.NoError(t, err)
	require.NoError(t, raw.Close())
	assert.Error(t, <-e.served)
}

func TestAClientThatVanishesLeavesNothing(t *testing.T) {
	e := listen(t, Config{Dial: fakeGuest(), Shell: "sleep"})
	c := e.connect(t)
	s := open(t, c)
	in, err := s.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, s.Shell())
	_, err = in.Write(make([]byte, 1<<20)) // sleep reads nothing
	require.NoError(t, err)
	require.NoError(t, c.Close())
	assert.NoError(t, <-e.served)
}

func TestTheGuestsEndEndsTheConnection(t *testing.T) {
	guests := make(chan net.Conn, 1)
	e := listen(t, Config{Shell: "x", Dial: dialer(func(c net.Conn) {
		_ = proto.NewWriter(c).WriteMessage(0, proto.TypeReady, guesttest.Ready)
		guests <- c
		_, _ = io.Copy(io.Discard, c)
	})})
	c := e.connect(t)
	_ = (<-guests).Close()
	assert.Error(t, c.Wait())
	assert.ErrorIs(t, <-e.served, client.ErrDisconnected)
}

func TestInactivity(t *testing.T) {
	e := listen(t, Config{Dial: fakeGuest(), Shell: "sleep", Inactivity: 200 * time.Millisecond})
	c := e.connect(t)
	assert.Error(t, c.Wait())
	assert.ErrorIs(t, <-e.served, ErrInactive)
}

// The limit needs no deadlines of the connection's: a ProxyCommand's pipes have none.
func TestAClientThatSaysNothingIsGivenUp(t *testing.T) {
	key, err := NewKey()
	require.NoError(t, err)
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, theirs) }()
		began := time.Now()
		err := New(Config{HostKey: key}).Serve(t.Context(), struct{ net.Conn }{ours})
		assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
		assert.Equal(t, handshakeLimit, time.Since(began))
	})
}

func TestForward(t *testing.T) {
	e := listen(t, Config{Dial: thisMachine(), Shell: "x"})
	c := e.connect(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	go func() {
		s, err := l.Accept()
		if err != nil {
			return
		}
		b, _ := io.ReadAll(s)
		_, _ = s.Write(append([]byte("got "), b...))
		_ = s.Close()
	}()
	conn, err := c.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	_, err = conn.Write([]byte("hello"))
	require.NoError(t, err)
	require.NoError(t, conn.(interface{ CloseWrite() error }).CloseWrite())
	answer, err := io.ReadAll(conn)
	require.NoError(t, err)
	assert.Equal(t, "got hello", string(answer))
	_ = conn.Close() // the server has closed it too

	_, err = c.Dial("tcp", "127.0.0.1:0")
	assert.ErrorContains(t, err, "no such destination")
	require.NoError(t, l.Close())
	_, err = c.Dial("tcp", l.Addr().String())
	assert.ErrorContains(t, err, "refused")
}

func TestFiles(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	e := listen(t, Config{Dial: thisMachine(), Shell: "x", Dir: dir, SFTP: true})
	f, err := sftp.NewClient(e.connect(t))
	require.NoError(t, err)
	defer func() { _ = f.Close() }()

	home, err := f.Getwd()
	require.NoError(t, err)
	assert.Equal(t, dir, home)
	require.NoError(t, f.Mkdir("d"))
	assert.Error(t, f.Mkdir("d"), "exists")
	assert.ErrorIs(t, f.Mkdir("no/d"), fs.ErrNotExist)
	content := []byte(strings.Repeat("0123456789abcdef", 40<<10)) // 640 KiB
	w, err := f.Create("d/a")
	require.NoError(t, err)
	_, err = w.ReadFrom(strings.NewReader(string(content)))
	require.NoError(t, err)
	require.NoError(t, w.Chmod(0o640))
	require.NoError(t, w.Close())
	got, err := os.ReadFile(filepath.Join(dir, "d/a"))
	require.NoError(t, err)
	assert.Equal(t, content, got)
	r, err := f.Open("d/a")
	require.NoError(t, err)
	back, err := io.ReadAll(r)
	require.NoError(t, err)
	assert.Equal(t, content, back)
	require.NoError(t, r.Close())

	st, err := f.Stat("d/a")
	require.NoError(t, err)
	assert.Equal(t, fs.FileMode(0o640), st.Mode())
	assert.Equal(t, int64(len(content)), st.Size())
	when := time.Unix(1e9, 0)
	require.NoError(t, f.Chtimes("d/a", when, when))
	require.NoError(t, f.Truncate("d/a", 3))
	require.NoError(t, f.Symlink("a", "d/link"))
	target, err := f.ReadLink("d/link")
	require.NoError(t, err)
	assert.Equal(t, "a", target)
	st, err = f.Lstat("d/link")
	require.NoError(t, err)
	assert.Equal(t, fs.ModeSymlink, st.Mode().Type())
	real, err := f.RealPath("d/link")
	require.NoError(t, err)
	assert.Equal(t, filepath.Join(dir, "d/a"), real)

	for i := range 150 { // more than one answer holds
		require.NoError(t, os.WriteFile(filepath.Join(dir, "d", "n"+string(rune('a'+i/26))+string(rune('a'+i%26))), nil, 0o600))
	}
	entries, err := f.ReadDir("d")
	require.NoError(t, err)
	assert.Len(t, entries, 152)

	assert.Error(t, f.Rename("d/naa", "d/nab"), "exists")
	require.NoError(t, f.PosixRename("d/naa", "d/nab"))
	require.NoError(t, f.Rename("d/nab", "d/fresh"))
	assert.Error(t, f.RemoveDirectory("d"), "not empty")
	require.NoError(t, f.Remove("d/fresh"))
	_, err = f.Stat("d/fresh")
	assert.ErrorIs(t, err, fs.ErrNotExist)
	assert.Error(t, f.Link("d/a", "d/hard"), "the agent has none")

	both, err := f.OpenFile("d/a", os.O_RDWR)
	require.NoError(t, err)
	_, err = both.WriteAt([]byte("X"), 1)
	require.NoError(t, err)
	p := make([]byte, 3)
	_, err = both.ReadAt(p, 0)
	require.NoError(t, err)
	assert.Equal(t, "0X2", string(p))
	require.NoError(t, both.Close())
	_, err = f.OpenFile("d/a", os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	assert.Error(t, err)
}

func TestNewMode(t *testing.T) {
	t.Parallel()
	assert.Nil(t, newMode(nil))
	assert.Nil(t, newMode(make([]byte, 12)))
	mode := newMode([]byte{0, 0, 0x81, 0xED})
	require.NotNil(t, mode)
	assert.Equal(t, uint32(0o755), *mode)
}

func TestReplyKeepsTheText(t *testing.T) {
	t.Parallel()
	err := reply(&client.FSError{Path: "/x", Errno: 13, Message: "Permission denied"})
	assert.ErrorIs(t, err, sftp.ErrSSHFxPermissionDenied)
	assert.ErrorContains(t, err, "Permission denied")
	assert.Equal(t, io.EOF, reply(io.EOF))
	assert.ErrorIs(t, reply(errors.New("full")), sftp.ErrSSHFxFailure)
}
