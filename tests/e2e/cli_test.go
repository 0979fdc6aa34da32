//go:build e2e

package e2e

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRun(t *testing.T) {
	r := cli(t, "run", "-q", "mini", "--", "/bin/sh", "-c", "echo out; echo err >&2; exit 7")
	assert.Equal(t, result{"out\n", "err\n", 7}, r)
	r = cliWith(t, strings.NewReader("piped in\n"), "run", "-q", "mini", "--", "tr", "a-z", "A-Z")
	assert.Equal(t, result{"PIPED IN\n", "", 0}, r)
	r = cli(t, "run", "mini", "--", "/bin/sh", "-c", "kill -9 $$")
	assert.Equal(t, 255, r.code)
	assert.Empty(t, cli(t, "ls", "-q").sandboxes(), "nothing is left")
}

func TestRunWithoutAShell(t *testing.T) {
	assert.Equal(t, result{"from scratch\n", "", 0}, cli(t, "run", "-q", "scratch"))
	assert.Equal(t, result{"my own\n", "", 0}, cli(t, "run", "-q", "--entrypoint", "", "scratch", "--", "/echo", "my own"))
	r := cli(t, "run", "-q", "--entrypoint", "", "scratch", "--", "/bin/sh")
	assert.Equal(t, 127, r.code)
}

func TestRunFailures(t *testing.T) {
	r := cli(t, "run", "mini", "--", "no-such-program")
	assert.Equal(t, 127, r.code)
	assert.Contains(t, r.stderr, `error: failed to exec "no-such-program"`)
	assert.Contains(t, r.stderr, "→ not found: ")
	r = cli(t, "run", "mini", "--", "/etc/passwd")
	assert.Equal(t, 126, r.code)
	assert.Contains(t, r.stderr, "→ permission denied: ")
	r = cli(t, "run", "--timeout", "1s", "mini", "--", "sleep", "100")
	assert.Equal(t, 1, r.code)
	assert.Contains(t, r.stderr, "timed out after")

	r = cli(t, "run", "--pull", "never", "not-loaded", "--", "true")
	assert.Equal(t, 1, r.code)
	assert.Contains(t, r.stderr, "error: image error: image not cached: ")
	assert.Contains(t, r.stderr, "/library/not-loaded:latest")
	for _, args := range [][]string{{"run", "--no-such-flag", "mini"}, {"no-such-command"}} {
		r = cli(t, args...)
		assert.Equal(t, 2, r.code, "%v", args)
		assert.Contains(t, r.stderr, "For more information, try '--help'.", "%v", args)
	}
	for _, args := range [][]string{{"run", "-c", "0", "mini"}, {"run", "-m", "x", "mini"}} {
		r = cli(t, args...)
		assert.Equal(t, 1, r.code, "%v", args)
		assert.NotContains(t, r.stderr, "--help", "a value is wrong, not how it is given: %v", args)
	}
	assert.Equal(t, 1, cli(t, "run").code, "no image")
	assert.Empty(t, cli(t, "ls", "-q").sandboxes())
}

// sandboxes are the names that ls -q printed, but for the shared one.
func (r result) sandboxes() []string {
	names := []string{}
	for _, n := range strings.Fields(r.stdout) {
		if n != sharedName {
			names = append(names, n)
		}
	}
	return names
}

// TestRunInterrupted presses Ctrl-C at different moments.
func TestRunInterrupted(t *testing.T) {
	for name, wait := range map[string]func(*testing.T, *bytes.Buffer){
		"booting": func(t *testing.T, _ *bytes.Buffer) { time.Sleep(700 * time.Millisecond) },
		"running": func(t *testing.T, _ *bytes.Buffer) {
			eventually(t, "the command runs", func() bool { return strings.Contains(cli(t, "ps", "--label", "interrupt="+t.Name()).stdout, "running") })
			time.Sleep(5 * time.Second)
		},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := command(t, "run", "-q", "--label", "interrupt="+t.Name(), "mini", "--", "sleep", "1000")
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			require.NoError(t, cmd.Start())
			wait(t, &stderr)
			begin := time.Now()
			require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
			_ = cmd.Wait()
			assert.Equal(t, 130, cmd.ProcessState.ExitCode(), stderr.String())
			assert.Less(t, time.Since(begin), 20*time.Second)
			assert.Empty(t, cli(t, "ls", "-q").sandboxes())
			folders, err := os.ReadDir(homePath("sandboxes"))
			require.NoError(t, err)
			for _, f := range folders {
				assert.Equal(t, sharedName, f.Name(), "folder")
			}
			noSockets(t)
		})
	}
}

func TestRunNamed(t *testing.T) {
	name := newName(t)
	assert.Equal(t, "first\n", cli(t, "run", "-q", "-n", name, "mini", "--", "echo", "first").ok(t))
	r := cli(t, "run", "-n", name, "-c", "2", "mini", "--", "echo", "again")
	assert.Equal(t, "again\n", r.ok(t))
	assert.Contains(t, r.stderr, "warn: ")
	assert.Contains(t, r.stderr, "--cpus")
	assert.Contains(t, cli(t, "ls").ok(t), name)
	cli(t, "rm", "-q", name).ok(t)
	gone(t, name)
}

func TestRunDetached(t *testing.T) {
	name := strings.TrimSpace(cli(t, "run", "-d", "mini", "--", "sh", "-c", "echo in the background; sleep 4").ok(t))
	t.Cleanup(func() { cleanUp(t, name) })
	assert.Regexp(t, regexp.MustCompile("^msb-[0-9a-f]{8}$"), name)
	eventually(t, "the output is logged", func() bool { return strings.Contains(cli(t, "logs", name).stdout, "in the background") })
	eventually(t, "it ends with its command", func() bool { return cli(t, "inspect", name).code == 1 })
	gone(t, name)
}

// TestOperations drives one sandbox with every command there is for it.
func TestOperations(t *testing.T) {
	name := newName(t)
	r := cli(t, "create", "-n", name, "--label", "made=by hand", "-e", "COLOUR=green", "mini")
	assert.Empty(t, r.ok(t))
	assert.Contains(t, r.stderr, "✓ Created")
	r = cli(t, "create", "-n", name, "mini")
	assert.Equal(t, 1, r.code)
	assert.Contains(t, r.stderr, "error: sandbox already exists: "+name)

	assert.Equal(t, result{"green\n", "", 0}, cli(t, "exec", name, "--", "sh", "-c", "echo $COLOUR"))
	assert.Equal(t, result{"blue guest /usr\n", "", 5}, cli(t, "exec", "-e", "COLOUR=blue", "-u", "guest", "-w", "/usr", name, "--", "sh", "-c", "echo $COLOUR $(whoami) $(pwd); exit 5"))
	assert.Equal(t, "STREAM", cliWith(t, strings.NewReader("stream"), "exec", "--stream", name, "--", "tr", "a-z", "A-Z").ok(t))
	assert.Equal(t, "sent", cliWith(t, strings.NewReader("sent"), "exec", name, "--", "cat").ok(t))
	assert.Contains(t, cli(t, "ping", name).stderr, "✓ Reachable")
	cli(t, "touch", name).ok(t)

	var one struct {
		Name, Status, Image string
		CPUs                int
		MemoryMiB           int `json:"memory_mib"`
	}
	require.NoError(t, json.Unmarshal([]byte(cli(t, "ps", name, "--format", "json").ok(t)), &one))
	assert.Equal(t, "Running", one.Status)
	assert.Equal(t, "mini", one.Image)
	assert.Equal(t, 512, one.MemoryMiB)
	var all []struct{ Name, Status, Image string }
	require.NoError(t, json.Unmarshal([]byte(cli(t, "ls", "--label", "made=by hand", "--format", "json").ok(t)), &all))
	require.Len(t, all, 1)
	assert.Equal(t, name, all[0].Name)
	var inspected struct {
		Status       string
		Config       json.RawMessage
		ActiveConfig json.RawMessage `json:"active_config"`
	}
	require.NoError(t, json.Unmarshal([]byte(cli(t, "inspect", name, "--format", "json").ok(t)), &inspected))
	assert.JSONEq(t, string(inspected.Config), string(inspected.ActiveConfig))

	host := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(host, "file"), []byte("copied\n"), 0o600))
	cli(t, "cp", filepath.Join(host, "file"), name+":/root/").ok(t)
	assert.Equal(t, "600 copied\n", cli(t, "exec", name, "--", "sh", "-c", "echo $(stat -c %a /root/file) $(cat /root/file)").ok(t))
	cli(t, "cp", name+":/root/file", filepath.Join(host, "back")).ok(t)
	back, err := os.ReadFile(filepath.Join(host, "back"))
	require.NoError(t, err)
	assert.Equal(t, "copied\n", string(back))

	cli(t, "stop", name).ok(t)
	noTrace(t, name)
	assert.Equal(t, "temporarily\n", cli(t, "exec", "-q", name, "--", "echo", "temporarily").ok(t), "exec starts a stopped sandbox")
	cli(t, "cp", name+":/root/file", filepath.Join(host, "again")).ok(t)
	assert.FileExists(t, filepath.Join(host, "again"), "and so does copy")
	assert.Contains(t, cli(t, "ps", "-a").ok(t), "stopped")
	cli(t, "start", name).ok(t)
	r = cli(t, "rm", name)
	assert.Equal(t, 1, r.code)
	assert.Contains(t, r.stderr, "error: sandbox still running: "+name)
	cli(t, "restart", name).ok(t)
	assert.Equal(t, "up\n", cli(t, "exec", name, "--", "echo", "up").ok(t))
	cli(t, "rm", "-f", name).ok(t)
	gone(t, name)
	r = cli(t, "stop", name)
	assert.Equal(t, 1, r.code)
	assert.Contains(t, r.stderr, "error: sandbox not found: "+name)
}

func TestLogs(t *testing.T) {
	name := newName(t)
	cli(t, "create", "-q", "-n", name, "mini").ok(t)
	for _, n := range []string{"1", "2", "3"} {
		cli(t, "exec", name, "--", "sh", "-c", "echo out "+n+"; echo err "+n+" >&2").ok(t)
	}
	all := cli(t, "logs", name).ok(t)
	assert.Contains(t, all, "out 1\n")
	assert.Contains(t, all, "err 3\n")
	assert.Equal(t, "out 3\n", cli(t, "logs", "--tail", "1", "--source", "stdout", name).ok(t))
	assert.Equal(t, "out 2\n", cli(t, "logs", "--grep", "out 2", name).ok(t))
	var line struct {
		T, S, D string
		ID      *uint64
	}
	require.NoError(t, json.Unmarshal([]byte(cli(t, "logs", "--json", "--grep", "err 1", name).ok(t)), &line))
	assert.Equal(t, "stderr", line.S)
	assert.Equal(t, "err 1\n", line.D)
	require.NotNil(t, line.ID)
	_, err := time.Parse(time.RFC3339, line.T)
	assert.NoError(t, err)

	follow := command(t, "logs", "-f", "--since", "1s", name)
	var out syncBuffer
	follow.Stdout = &out
	require.NoError(t, follow.Start())
	time.Sleep(time.Second)
	cli(t, "exec", name, "--", "echo", "followed").ok(t)
	eventually(t, "new lines arrive", func() bool { return strings.Contains(out.String(), "followed\n") })
	require.NoError(t, follow.Process.Signal(syscall.SIGINT))
	require.NoError(t, follow.Wait())
	cli(t, "stop", "-q", name).ok(t)
	assert.Contains(t, cli(t, "logs", name).ok(t), "followed\n")
	assert.Contains(t, cli(t, "logs", "--source", "system", name).ok(t), "the guest is ready")
	assert.Equal(t, 1, cli(t, "logs", "no-such-sandbox").code)
}

// TestTerminal runs commands on a terminal, as a person does.
func TestTerminal(t *testing.T) {
	name := newName(t)
	cli(t, "create", "-q", "-n", name, "mini").ok(t)
	term := openTerminal(t, 31, 97)
	cmd := command(t, "exec", "-t", name, "--", "sh", "-c", "stty size; read x; echo got $x; exit 6")
	term.start(t, cmd)
	term.expect(t, "31 97\r\n")
	term.resize(t, 20, 50)
	term.send(t, "typed\r")
	term.expect(t, "got typed\r\n")
	_ = cmd.Wait()
	assert.Equal(t, 6, cmd.ProcessState.ExitCode())

	// Ctrl-C belongs to the guest's terminal, and the detach keys leave the command alone.
	// Nothing that Ctrl-C ends may end the loop: the detach keys would be for the next one.
	cmd = command(t, "exec", name, "--", "sh", "-c", `trap 'echo int' INT; echo start; while :; do sleep 0.1; done`)
	term.start(t, cmd)
	term.expect(t, "start\r\n")
	term.send(t, "\x03")
	term.expect(t, "int\r\n")
	term.send(t, "\x1d")
	require.NoError(t, cmd.Wait())
	cli(t, "exec", name, "--", "true").ok(t)

	// What is typed before there is a sandbox, or a shell in it, is the shell's first line.
	cmd = command(t, "run", "-q", "mini")
	term.start(t, cmd)
	term.send(t, "tty; exit 4\r")
	term.expect(t, "/dev/pts/")
	_ = cmd.Wait()
	assert.Equal(t, 4, cmd.ProcessState.ExitCode())
}

func TestImages(t *testing.T) {
	var all []struct {
		Reference, Digest string
		LayerCount        int `json:"layer_count"`
	}
	require.NoError(t, json.Unmarshal([]byte(cli(t, "image", "ls", "--format", "json").ok(t)), &all))
	layers := map[string]int{}
	for _, i := range all {
		layers[i.Reference[strings.LastIndex(i.Reference, "/")+1:]] = i.LayerCount
	}
	assert.Subset(t, layers, map[string]int{"mini:latest": 1, "debian:latest": 2, "scratch:latest": 1, "hostile:latest": 3, "layered:latest": 15})
	assert.Contains(t, cli(t, "image", "inspect", "mini").ok(t), "TEST_IMAGE=1")
	_ = shared(t)
	r := cli(t, "image", "rm", "mini")
	assert.Equal(t, 1, r.code)
	assert.Contains(t, r.stderr, "in use by sandbox(es): "+sharedName)
	r = cli(t, "image", "rm", "no-such-image")
	assert.Equal(t, 1, r.code)
	assert.Contains(t, r.stderr, "error: image not found: no-such-image")
}

// TestHostileArchives loads archives that try to get out.
func TestHostileArchives(t *testing.T) {
	for name, entry := range map[string]tar.Header{
		"climb":     {Name: "../../../../../../tmp/escaped", Typeflag: tar.TypeReg},
		"whiteout":  {Name: "a/.wh...", Typeflag: tar.TypeReg},
		"hard link": {Name: "x", Typeflag: tar.TypeLink, Linkname: "../../../../../../etc/passwd"},
	} {
		var layer, archive bytes.Buffer
		w := tar.NewWriter(&layer)
		require.NoError(t, w.WriteHeader(&entry))
		require.NoError(t, w.Close())
		w = tar.NewWriter(&archive)
		for _, f := range []struct {
			name string
			data []byte
		}{
			{"layer.tar", layer.Bytes()},
			{"config.json", []byte(`{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":["sha256:` + sum(layer.Bytes()) + `"]}}`)},
			{"manifest.json", []byte(`[{"Config":"config.json","RepoTags":["bad:latest"],"Layers":["layer.tar"]}]`)},
		} {
			require.NoError(t, w.WriteHeader(&tar.Header{Name: f.name, Size: int64(len(f.data)), Mode: 0o644}))
			_, err := w.Write(f.data)
			require.NoError(t, err)
		}
		require.NoError(t, w.Close())
		r := cliWith(t, &archive, "load")
		assert.Equal(t, 1, r.code, name)
		assert.Contains(t, r.stderr, "error: load image: ", name)
		assert.NoFileExists(t, "/tmp/escaped")
		assert.Equal(t, 1, cli(t, "image", "inspect", "bad").code, name)
	}
}

func TestDoctor(t *testing.T) {
	r := cli(t, "doctor")
	assert.Zero(t, r.code, r.stderr)
	assert.Contains(t, r.stderr, "✓ KVM access")
	t.Setenv("MSB_HOME", "/proc/nowhere")
	r = cli(t, "doctor")
	assert.Equal(t, 1, r.code)
	assert.Contains(t, r.stderr, "✗ Data root")
	assert.Contains(t, r.stderr, "MSB_HOME")
}

func TestVersion(t *testing.T) {
	assert.Regexp(t, `^msb [0-9]+\.[0-9]+\.[0-9]+\n$`, cli(t, "--version").ok(t))
	assert.Contains(t, cli(t, "--help").ok(t), "Sandboxes")
}

// TestCreateInterrupted cancels a creation before it is complete.
func TestCreateInterrupted(t *testing.T) {
	name := newName(t)
	cmd := command(t, "create", "-n", name, "mini")
	require.NoError(t, cmd.Start())
	eventually(t, "the runtime starts", func() bool { return len(runtimes(t, name)) == 1 })
	require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
	_ = cmd.Wait()
	assert.Equal(t, 130, cmd.ProcessState.ExitCode())
	eventually(t, "the runtime ends", func() bool { return len(runtimes(t, name)) == 0 })
	gone(t, name)
}
