//go:build e2e

package e2e

import (
	"bytes"
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	msb "github.com/gomsb/gomsb/sdk"
)

// openSSH are the options that Debian's OpenSSH clients reach a sandbox with.
type openSSH struct {
	dir  string
	opts []string
}

// newOpenSSH makes a key, authorizes it, and has connections to go through msb ssh serve
// --stdio.
func newOpenSSH(t *testing.T, sandbox string) *openSSH {
	t.Helper()
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	out, err := exec.CommandContext(within(t, patience), "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput()
	require.NoError(t, err, string(out))
	cli(t, "ssh", "authorize", "--file", key+".pub").ok(t)
	return &openSSH{dir, []string{
		"-F", "none", "-q", "-i", key, "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "UserKnownHostsFile=" + filepath.Join(dir, "known"),
		"-o", "StrictHostKeyChecking=accept-new", "-o", "ProxyCommand=" + os.Getenv("MSB_PATH") + " ssh serve --stdio " + sandbox,
	}}
}

// client is a program of OpenSSH with these options and args.
func (o *openSSH) client(t *testing.T, program string, args ...string) *exec.Cmd {
	t.Helper()
	return exec.CommandContext(within(t, 2*patience), program, append(o.opts[:len(o.opts):len(o.opts)], args...)...)
}

func TestSSH(t *testing.T) {
	name := newName(t)
	sb := createAs(t, name)
	o := newOpenSSH(t, name)

	t.Run("commands", func(t *testing.T) {
		cmd := o.client(t, "ssh", "root@box", "id -un; echo $0; cat; echo oops >&2; exit 3")
		var stdout, stderr bytes.Buffer
		big := make([]byte, 1<<20)
		_, _ = rand.Read(big)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(big), &stdout, &stderr
		_ = cmd.Run()
		assert.Equal(t, 3, cmd.ProcessState.ExitCode(), stderr.String())
		assert.Equal(t, "oops\n", stderr.String())
		head, rest, _ := bytes.Cut(stdout.Bytes(), []byte("/bin/sh\n"))
		assert.Equal(t, "root\n", string(head))
		assert.True(t, bytes.Equal(big, rest), "%d bytes came back", len(rest))
	})
	t.Run("terminal", func(t *testing.T) {
		term := openTerminal(t, 31, 97)
		cmd := o.client(t, "ssh", "-tt", "root@box", "stty size; read x; stty size; echo got $x; exit 6")
		term.start(t, cmd)
		term.expect(t, "31 97\r\n")
		term.resize(t, 20, 50)
		term.send(t, "typed\r")
		term.expect(t, "got typed\r\n")
		_ = cmd.Wait()
		assert.Equal(t, 6, cmd.ProcessState.ExitCode())
		assert.Contains(t, term.shown.String(), "20 50\r\n")
	})
	t.Run("files", func(t *testing.T) {
		local := filepath.Join(o.dir, "local")
		content := make([]byte, 300<<10)
		_, _ = rand.Read(content)
		require.NoError(t, os.WriteFile(local, content, 0o751))
		batch := filepath.Join(o.dir, "batch")
		require.NoError(t, os.WriteFile(batch, []byte(strings.Join([]string{
			"mkdir /root/sftp", "cd /root/sftp", "put " + local + " a", "rename a b", "ln -s b link", "chmod 640 b", "ls -l", "get link " + local + ".back", "rm link", "put -p " + local + " kept",
		}, "\n")+"\n"), 0o600))
		out, err := o.client(t, "sftp", "-b", batch, "root@box").CombinedOutput()
		require.NoError(t, err, string(out))
		back, err := os.ReadFile(local + ".back")
		require.NoError(t, err)
		assert.True(t, bytes.Equal(content, back))
		assert.Contains(t, string(out), "-rw-r-----")
		assert.Equal(t, "640 751", strings.ReplaceAll(shell(t, sb, "cd /root/sftp; stat -c %a b kept"), "\n", " "))
		out, err = o.client(t, "sftp", "-b", batch, "root@box").CombinedOutput()
		assert.Error(t, err, "the folder exists: %s", out)
	})
	t.Run("forwarding", func(t *testing.T) {
		h, err := sb.ShellStream(within(t, patience), "echo from the guest | nc -l -p 7777")
		require.NoError(t, err)
		defer func() { _ = h.Close() }()
		eventually(t, "the guest listens", func() bool {
			return strings.Contains(shell(t, sb, "cat /proc/net/tcp /proc/net/tcp6"), ":1E61 ")
		})
		out, err := o.client(t, "ssh", "-W", "127.0.0.1:7777", "root@box").CombinedOutput()
		require.NoError(t, err, string(out))
		assert.Equal(t, "from the guest\n", string(out))
	})
	t.Run("strangers", func(t *testing.T) {
		other := filepath.Join(o.dir, "other")
		out, err := exec.CommandContext(within(t, patience), "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other).CombinedOutput()
		require.NoError(t, err, string(out))
		cmd := o.client(t, "ssh", "root@box", "true")
		for i, a := range cmd.Args {
			if a == filepath.Join(o.dir, "key") {
				cmd.Args[i] = other
			}
		}
		_ = cmd.Run()
		assert.Equal(t, 255, cmd.ProcessState.ExitCode())
	})
	t.Run("our own client", func(t *testing.T) {
		r := cli(t, "ssh", name, "--", "echo", "$HOME;", "exit", "4")
		assert.Equal(t, result{"/root\n", "", 4}, r)
		c, err := sb.SSH().OpenClient(within(t, patience))
		require.NoError(t, err)
		defer func() { _ = c.Close(t.Context()) }()
		ctx := within(t, patience)
		tty, err := c.Exec(ctx, "tty; echo err >&2", msb.WithSSHTTY(true))
		require.NoError(t, err)
		assert.Contains(t, string(tty.Stdout), "/dev/pts/")
		assert.Contains(t, string(tty.Stdout), "err")
		f, err := c.SFTP(ctx)
		require.NoError(t, err)
		require.NoError(t, f.Mkdir(ctx, "/tmp/own"))
		require.NoError(t, f.Write(ctx, "/tmp/own/a", []byte("hello")))
		require.NoError(t, f.Rename(ctx, "/tmp/own/a", "/tmp/own/b"))
		require.NoError(t, f.Symlink(ctx, "b", "/tmp/own/link"))
		text, err := f.Read(ctx, "/tmp/own/link")
		require.NoError(t, err)
		assert.Equal(t, "hello", string(text))
		target, err := f.ReadLink(ctx, "/tmp/own/link")
		require.NoError(t, err)
		assert.Equal(t, "b", target)
		real, err := f.RealPath(ctx, "/tmp/own/../own/link")
		require.NoError(t, err)
		assert.Equal(t, "/tmp/own/b", real)
		require.NoError(t, f.RemoveFile(ctx, "/tmp/own/link"))
		require.NoError(t, f.RemoveFile(ctx, "/tmp/own/b"))
		require.NoError(t, f.RemoveDir(ctx, "/tmp/own"))
		_, err = f.Read(ctx, "/tmp/own/b")
		assert.True(t, msb.IsKind(err, msb.ErrPathNotFound), "%v", err)
		require.NoError(t, f.Close(ctx))
	})
}
