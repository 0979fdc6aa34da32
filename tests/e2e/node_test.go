//go:build e2e

package e2e

import (
	"embed"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// nodeScripts are programs for the official Node SDK, with the calls of its documentation.
//
//go:embed node/*.mjs
var nodeScripts embed.FS

// TestNodeSDK has microsandbox's own Node SDK 0.6.18 drive our runtime, from a home that
// only it and the runtime have touched. The scripts after the first connect to its sandbox;
// the last one removes it.
func TestNodeSDK(t *testing.T) {
	n := newNode(t, newHome(t, "").home)
	images, shared := filepath.Join(n.dir, "mini.tar"), filepath.Join(n.dir, "shared")
	cli(t, "image", "save", "-q", "-o", images, "mini").ok(t)
	require.NoError(t, os.Mkdir(shared, 0o755))
	n.env = append(n.env, "IMAGES="+images, "SHARED="+shared, "PUBLISHED="+freePort(t))
	require.True(t, n.run(t, "create"), "the others have nothing to connect to")
	n.run(t, "exec")
	n.run(t, "files")
	n.run(t, "observe")
	n.run(t, "network")
	t.Run("attach", n.testAttach)
	n.run(t, "lifecycle")
	for _, dir := range []string{"sandboxes", "snapshots"} {
		entries, err := os.ReadDir(filepath.Join(n.home, dir))
		require.NoError(t, err)
		assert.Empty(t, entries, dir)
	}
}

// TestNodeSecrets has the official SDK make a sandbox with a policy, intercepted TLS and a
// secret, among the servers of TestSecrets.
func TestNodeSecrets(t *testing.T) {
	if !inNameSpace(t) {
		return
	}
	v := newVault(t)
	n := newNode(t, data("by-official"))
	n.env = append(n.env, "TRUSTED="+v.trusted, "ROTATED="+rotated, "WEB="+strconv.Itoa(int(v.web)))
	require.True(t, n.run(t, "guarded"))
	assert.Equal(t, []string{
		"www.good.test|/p?k=" + sesame + "|Bearer " + sesame + "|me:" + sesame + "|b=" + sesame,
		"bad.test|/||:|",
		"v4.good.test|/|$MSB_KEY|:|",
		"www.good.test|/|" + rotated + "|:|",
	}, v.got())
	assert.NoDirExists(t, filepath.Join(n.home, "sandboxes", "guarded"))
}

// nodeSandboxes are those that the scripts make.
var nodeSandboxes = []string{"docs", "branch", "guarded"}

// node is a folder with the scripts and the SDK, and a home.
type node struct {
	dir  string
	home string
	env  []string
}

func newNode(t *testing.T, home string) *node {
	modules, err := os.ReadFile(data("node-sdk"))
	require.NoError(t, err)
	n := &node{dir: t.TempDir(), home: home}
	scripts, err := fs.Sub(nodeScripts, "node")
	require.NoError(t, err)
	require.NoError(t, os.CopyFS(n.dir, scripts))
	require.NoError(t, os.Symlink(strings.TrimSpace(string(modules)), filepath.Join(n.dir, "node_modules")))
	n.env = append(os.Environ(), "MSB_HOME="+n.home, "HOME="+t.TempDir(), "KEY="+sesame,
		"MSB_SHUTDOWN_FLUSH_TIMEOUT_MS=60000") // a busy machine may need more than the usual seconds for a clean stop
	t.Cleanup(func() { // if the scripts have not come that far
		cmd := exec.Command(os.Getenv("MSB_PATH"), append([]string{"rm", "-f"}, nodeSandboxes...)...)
		cmd.Env = n.env
		_ = cmd.Run()
	})
	return n
}

// freePort is a TCP port that nobody listens at.
func freePort(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

func (n *node) command(t *testing.T, script string) *exec.Cmd {
	cmd := exec.CommandContext(within(t, 8*patience), "node", script+".mjs")
	cmd.Dir, cmd.Env, cmd.WaitDelay = n.dir, n.env, time.Second
	return cmd
}

// run runs a script, which says nothing if all is well.
func (n *node) run(t *testing.T, script string) bool {
	t.Helper()
	started := time.Now()
	out, err := n.command(t, script).CombinedOutput()
	if err != nil {
		for _, name := range nodeSandboxes {
			log, _ := os.ReadFile(filepath.Join(n.home, "sandboxes", name, "logs", "runtime.log"))
			t.Logf("runtime.log of %s: %s", name, log)
		}
	}
	t.Logf("%s.mjs took %s", script, time.Since(started).Round(time.Millisecond))
	return assert.NoError(t, err, "%s.mjs: %s", script, out) && assert.Empty(t, string(out), script)
}

func (n *node) testAttach(t *testing.T) {
	x := openTerminal(t, 24, 80)
	cmd := n.command(t, "attach")
	x.start(t, cmd)
	x.expect(t, "/app # ")
	x.resize(t, 30, 91)
	x.send(t, "stty size\r")
	x.expect(t, "30 91")
	x.send(t, "exit 5\r")
	x.expect(t, "code 5")
	x.expect(t, "attached")
	x.send(t, "\x11")
	x.expect(t, "code ")
	require.NoError(t, cmd.Wait())
}
