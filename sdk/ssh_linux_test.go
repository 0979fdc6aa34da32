package microsandbox

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/guestagent/proto"
	"github.com/gomsb/gomsb/internal/runtime/runtimetest"
	"github.com/gomsb/gomsb/internal/sshd"
)

func openSSH(t *testing.T, sb *Sandbox, opts ...SSHClientOption) *SSHClient {
	t.Helper()
	c, err := sb.SSH().OpenClient(testContext(t), opts...)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

func TestSSHExec(t *testing.T) {
	newGuests(t, runtimetest.Guest{})
	ctx := testContext(t)
	t.Run("what is asked for arrives", func(t *testing.T) {
		c := openSSH(t, create(t, "a", WithShell("request")), WithSSHTerm("vt100"))
		out, err := c.Exec(ctx, "ls *")
		require.NoError(t, err)
		require.True(t, out.Success())
		var r proto.ExecRequest
		require.NoError(t, json.Unmarshal(out.Stdout, &r))
		assert.Equal(t, []string{"-c", "ls *"}, r.Args)
		assert.Equal(t, "root", *r.User)
		out, err = c.Exec(ctx, "x", WithSSHTTY(true))
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(out.Stdout, &r))
		assert.True(t, r.TTY)
		assert.Contains(t, r.Env, "TERM=vt100")
	})
	t.Run("errors are apart and status is the command's", func(t *testing.T) {
		c := openSSH(t, create(t, "b", WithShell("warn")), WithSSHUser("nobody"))
		out, err := c.Exec(ctx, "oops")
		require.NoError(t, err)
		assert.Equal(t, &SSHOutput{Stdout: out.Stdout, Stderr: []byte("-c oops\n")}, out)
		assert.Empty(t, out.Stdout)
		c = openSSH(t, create(t, "c", WithShell("nowhere")))
		out, err = c.Exec(ctx, "x")
		require.NoError(t, err)
		assert.Equal(t, 127, out.Status)
	})
	t.Run("streams", func(t *testing.T) {
		c := openSSH(t, create(t, "d", WithShell("cat")))
		var out strings.Builder
		status, err := c.Run(ctx, "", SSHStreams{Stdin: strings.NewReader("hello"), Stdout: &out})
		require.NoError(t, err)
		assert.Zero(t, status)
		assert.Equal(t, "hello", out.String())
	})
	t.Run("context", func(t *testing.T) {
		c := openSSH(t, create(t, "e", WithShell("sleep")))
		ctx, cancel := context.WithCancel(ctx)
		time.AfterFunc(50*time.Millisecond, cancel)
		_, err := c.Exec(ctx, "x")
		assert.True(t, IsKind(err, ErrCancelled), "%v", err)
		_, err = c.SFTP(ctx)
		assert.True(t, IsKind(err, ErrCancelled), "%v", err)
	})
	t.Run("the sandbox ends", func(t *testing.T) {
		sb := create(t, "f", WithShell("sleep"))
		c := openSSH(t, sb)
		time.AfterFunc(50*time.Millisecond, func() { _ = sb.Kill(ctx) })
		_, err := c.Exec(ctx, "x")
		assert.True(t, IsKind(err, ErrSandboxNotRunning), "%v", err)
	})
	t.Run("no SFTP", func(t *testing.T) {
		c := openSSH(t, create(t, "g"), WithSSHClientSFTP(false))
		_, err := c.SFTP(ctx)
		assert.True(t, IsKind(err, ErrUnsupportedOperation), "%v", err)
	})
}

func TestSSHInactivityTimeout(t *testing.T) {
	h := newGuests(t, runtimetest.Guest{})
	sb := create(t, "a", WithShell("sleep"))
	ctx := testContext(t)
	_, err := sb.SSH().OpenClient(ctx, WithSSHClientInactivityTimeout(-1))
	assert.ErrorContains(t, err, "negative")
	_, err = sb.SSH().PrepareServer(ctx, WithSSHServerInactivityTimeout(-time.Second))
	assert.ErrorContains(t, err, "negative")
	c := openSSH(t, sb, WithSSHClientInactivityTimeout(100*time.Millisecond))
	_, err = c.Exec(ctx, "x")
	assert.Error(t, err)

	for name, want := range map[string]time.Duration{`{}`: 10 * time.Minute, `{"ssh":{"inactivity_timeout_secs":0}}`: 0, `{"ssh":{"inactivity_timeout_secs":7}}`: 7 * time.Second} {
		require.NoError(t, os.WriteFile(h.configFile, []byte(name), 0o600))
		s, err := readSettings(h.configFile)
		require.NoError(t, err)
		got, err := s.inactivity(nil)
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
}

func TestSSHAttach(t *testing.T) {
	newGuests(t, runtimetest.Guest{})
	ctx := testContext(t)
	keyboard, tty := terminal(t)
	c := openSSH(t, create(t, "a", WithShell("cat")))
	done := make(chan error, 1)
	go func() {
		_, err := c.attach(ctx, tty, tty, []SSHAttachOption{WithSSHDetachKeys("ctrl-p,ctrl-q"), WithSSHAttachTerm("vt100")})
		done <- err
	}()
	require.Eventually(t, func() bool { // typing before raw mode would be echoed
		s, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
		return err == nil && s.Lflag&unix.ECHO == 0
	}, 20*time.Second, time.Millisecond)
	_, err := keyboard.WriteString("hi")
	require.NoError(t, err)
	got := make([]byte, 2)
	_, err = io.ReadFull(keyboard, got)
	require.NoError(t, err)
	assert.Equal(t, "hi", string(got))
	_, err = keyboard.Write([]byte{'P' & 0x1F, 'Q' & 0x1F})
	require.NoError(t, err)
	assert.ErrorIs(t, <-done, ErrDetached)
	_, err = c.attach(ctx, tty, tty, []SSHAttachOption{WithSSHDetachKeys("nope")})
	assert.True(t, IsKind(err, ErrInvalidConfig), "%v", err)
}

func TestSSHServer(t *testing.T) {
	h := newGuests(t, runtimetest.Guest{})
	sb := create(t, "a", WithShell("echo"))
	ctx := testContext(t)
	_, err := sb.SSH().PrepareServer(ctx)
	require.True(t, IsKind(err, ErrInvalidConfig), "%v", err)
	assert.ErrorContains(t, err, "msb ssh authorize")

	key, err := sshd.NewKey()
	require.NoError(t, err)
	file, added, err := AuthorizeSSHKey(string(ssh.MarshalAuthorizedKey(key.PublicKey())))
	require.NoError(t, err)
	assert.True(t, added)
	assert.Equal(t, filepath.Join(h.root, "ssh", "authorized_keys"), file)
	_, _, err = AuthorizeSSHKey("garbage words")
	assert.True(t, IsKind(err, ErrInvalidArgument), "%v", err)

	server, err := sb.SSH().PrepareServer(ctx, WithSSHServerUser("dev"))
	require.NoError(t, err)
	assert.FileExists(t, filepath.Join(h.root, "sandboxes", "a", "ssh", "host_ed25519"))
	near, far, err := connPair()
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- server.ServeConn(ctx, far) }()
	conn, channels, requests, err := ssh.NewClientConn(near, "", &ssh.ClientConfig{User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, HostKeyCallback: func(_ string, _ net.Addr, k ssh.PublicKey) error {
		assert.Equal(t, ssh.KeyAlgoED25519, k.Type())
		return nil
	}})
	require.NoError(t, err)
	c := ssh.NewClient(conn, channels, requests)
	s, err := c.NewSession()
	require.NoError(t, err)
	out, err := s.Output("hello")
	require.NoError(t, err)
	assert.Equal(t, "-c hello\n", string(out))
	require.NoError(t, server.Close(ctx))
	err = <-served
	assert.True(t, IsKind(err, ErrCancelled), "%v", err)
	_ = c.Close()

	other := filepath.Join(t.TempDir(), "keys")
	_, err = sb.SSH().PrepareServer(ctx, WithSSHAuthorizedKeysPath(other), WithSSHHostKeyPath(other), WithSSHServerSFTP(false))
	assert.ErrorContains(t, err, other)
}

func TestSSHOverStdio(t *testing.T) {
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer func() { _ = w.Close() }()
	c, err := newStdioConn(r, w)
	require.NoError(t, err)
	_, err = c.Write([]byte("x"))
	require.NoError(t, err)
	p := make([]byte, 8)
	n, err := c.Read(p)
	require.NoError(t, err)
	assert.Equal(t, "x", string(p[:n]))
	ended := make(chan error, 1)
	go func() {
		_, err := c.Read(p)
		ended <- err
	}()
	require.NoError(t, c.Close())
	assert.ErrorIs(t, <-ended, os.ErrClosed)
	require.NoError(t, r.Close())
}
