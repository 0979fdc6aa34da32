package cli

import (
	"bufio"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/gomsb/gomsb/internal/runtime/runtimetest"
	"github.com/gomsb/gomsb/internal/sshd"
)

func TestSSH(t *testing.T) {
	newGuests(t, runtimetest.Guest{})
	succeed(t, "create", "-q", "-n", "box", "--shell", "warn", "mini")
	assert.Equal(t, result{0, "", "-c a b  c\n"}, run("ssh", "box", "--", "a", "b  c"))
	assert.Equal(t, result{0, "", "-c x\n"}, run("ssh", "connect", "--name", "box", "--no-inactivity-timeout", "--", "x"))
	assert.Equal(t, result{0, "", "\n"}, run("ssh", "box"), "no terminal: the shell reads its input")

	succeed(t, "stop", "-q", "box")
	assert.Equal(t, result{0, "", "-c x\n"}, run("ssh", "box", "--", "x"))
	assert.Contains(t, run("ls", "--stopped").out, "box", "it is stopped again")

	succeed(t, "create", "-q", "-n", "serve", "--shell", "nowhere", "mini")
	r := run("ssh", "--name", "serve", "--inactivity-timeout", "0", "--", "x")
	assert.Equal(t, 127, r.code)
	assert.Contains(t, r.err, "no nowhere")
}

func TestSSHErrors(t *testing.T) {
	newGuests(t, runtimetest.Guest{})
	for line, want := range map[string]result{
		"ssh":                             {1, "", "error: missing sandbox name\n"},
		"ssh nope":                        {1, "", "error: sandbox not found: nope\n"},
		"ssh a --name b":                  {1, "", "error: use either --name or the sandbox positional, not both\n"},
		"ssh nope --inactivity-timeout x": {1, "", "error: --inactivity-timeout: invalid digit found in string\n"},
		"ssh serve nope":                  {1, "", "error: sandbox not found: nope\n"},
		"ssh authorize --key garbage":     {1, "", "error: invalid public key\n"},
	} {
		assert.Equal(t, want, run(strings.Fields(line)...), line)
	}
	for _, line := range []string{"ssh authorize", "ssh authorize --stdin --key x", "ssh serve", "ssh serve a --stdio --port 1", "ssh a --inactivity-timeout 1 --no-inactivity-timeout"} {
		assert.Equal(t, 2, run(strings.Fields(line)...).code, line)
	}
	succeed(t, "create", "-q", "-n", "box", "mini")
	r := run("ssh", "serve", "box", "--stdio")
	assert.Equal(t, 1, r.code)
	assert.Contains(t, r.err, "add one with `msb ssh authorize")
}

func TestSSHAuthorize(t *testing.T) {
	home := newHome(t)
	path := filepath.Join(home, "ssh", "authorized_keys")
	line := func() string {
		k, err := sshd.NewKey()
		require.NoError(t, err)
		return string(ssh.MarshalAuthorizedKey(k.PublicKey()))
	}
	first, second := line(), line()
	file := filepath.Join(t.TempDir(), "key.pub")
	require.NoError(t, os.WriteFile(file, []byte(first), 0o600))
	assert.Equal(t, result{0, "", "   ✓ Authorized key " + path + "\n"}, run("ssh", "authorize", "--file", file))
	assert.Equal(t, result{0, "", "   ✓ Already authorized " + path + "\n"}, run("ssh", "authorize", "--key", first))
	assert.Zero(t, msbIn(strings.NewReader(second), "ssh", "authorize", "--stdin").code)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, first+second, string(text))
	r := run("ssh", "authorize", "--file", "/nowhere")
	assert.Equal(t, 1, r.code)
	assert.Contains(t, r.err, "/nowhere")
}

func TestSSHServe(t *testing.T) {
	newGuests(t, runtimetest.Guest{})
	succeed(t, "create", "-q", "-n", "box", "--shell", "echo", "mini")
	key, err := sshd.NewKey()
	require.NoError(t, err)
	succeed(t, "ssh", "authorize", "--key", string(ssh.MarshalAuthorizedKey(key.PublicKey())))

	self, err := os.Executable()
	require.NoError(t, err)
	server := exec.Command(self, "ssh", "serve", "box", "--port", "0")
	server.Env = append(os.Environ(), commandEnv+"=1")
	messages, err := server.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, server.Start())
	text, err := bufio.NewReader(messages).ReadString('\n')
	require.NoError(t, err)
	fields := strings.Fields(text)
	addr := fields[len(fields)-1]
	client, err := ssh.Dial("tcp", addr, &ssh.ClientConfig{User: "x", Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, HostKeyCallback: func(string, net.Addr, ssh.PublicKey) error { return nil }})
	require.NoError(t, err)
	s, err := client.NewSession()
	require.NoError(t, err)
	out, err := s.Output("hi")
	require.NoError(t, err)
	assert.Equal(t, "-c hi\n", string(out))
	require.NoError(t, server.Process.Signal(syscall.SIGINT))
	_, _ = io.Copy(io.Discard, messages)
	require.NoError(t, server.Wait(), "an interrupt is the orderly end")
	assert.Error(t, client.Wait())
	assert.Contains(t, run("ls", "--running").out, "box")
}
