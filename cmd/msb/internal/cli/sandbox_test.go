package cli

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/guestagent/proto"
	"github.com/gomsb/gomsb/internal/runtime/runtimetest"
)

// leftovers lists what sandboxes left in a data root.
func leftovers(t *testing.T, home string) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"sandboxes/*", "run/sandboxes/*", "run/agent/*"} {
		found, err := filepath.Glob(filepath.Join(home, pattern))
		require.NoError(t, err)
		all = append(all, found...)
	}
	return all
}

func TestRun(t *testing.T) {
	home := newGuests(t, runtimetest.Guest{})
	for name, c := range map[string]struct {
		line string
		want result
	}{
		"default command":     {"run mini", result{0, "default\n", ""}},
		"command is for CMD":  {"run mini -- a b", result{0, "a b\n", ""}},
		"entrypoint":          {"run --entrypoint warn mini -- oops", result{0, "", "oops\n"}},
		"no entrypoint":       {"run --entrypoint= mini -- exit 42", result{42, "", ""}},
		"flags after image":   {"run mini --entrypoint= -- exit 3", result{3, "", ""}},
		"unknown user":        {"run --entrypoint= mini -- fail user_setup_failed", result{1, "", "error: failed to exec \"fail\"\n  → user setup: no fail\n  → the sandbox has no such user or group; check the spelling or give numbers, UID[:GID]\n"}},
		"not found":           {"run --entrypoint= mini -- nowhere", result{127, "", "error: failed to exec \"nowhere\"\n  → not found: no nowhere\n  → the program is not in the sandbox's PATH; check the spelling or give its full path\n"}},
		"permission":          {"run --entrypoint= mini -- fail permission_denied", result{126, "", "error: failed to exec \"fail\"\n  → permission denied: no fail\n  → the file exists but this user must not run it; check its mode and the user\n"}},
		"other failure":       {"run --entrypoint= mini -- fail other", result{1, "", "error: failed to exec \"fail\"\n  → exec: no fail\n"}},
		"timeout":             {"run --timeout 1 --entrypoint= mini -- sleep", result{1, "", "error: exec timed out after 1s\n"}},
		"dashes are verbatim": {"run mini -- --name -x --", result{0, "--name -x --\n", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, c.want, run(strings.Fields(c.line)...))
			assert.Empty(t, leftovers(t, home))
		})
	}
	assert.Equal(t, result{0, "", "No sandboxes found.\n"}, run("ls"))
	r := msbIn(strings.NewReader("piped in"), "run", "--entrypoint=", "mini", "--", "cat")
	assert.Equal(t, result{0, "piped in", ""}, r)
	r = run("run", "--entrypoint=", "mini")
	assert.Equal(t, 127, r.code, "CMD alone is %q", "default")
}

func TestRunNamed(t *testing.T) {
	home := newGuests(t, runtimetest.Guest{})
	assert.Equal(t, result{0, "one\n", ""}, run("run", "--name", "a", "mini", "--", "one"))
	assert.Equal(t, "a\n", succeed(t, "ls", "-q").out)
	r := run("run", "--name", "a", "-c", "4", "-m", "1G", "mini", "--", "two")
	assert.Equal(t, result{0, "two\n", "warn: sandbox a exists: --cpus, --memory ignored\n  → remove it first, or use --replace\n"}, r)
	assert.Contains(t, succeed(t, "ls").out, "stopped", "this invocation started it")
	assert.Equal(t, result{0, "default\n", ""}, run("run", "--name", "a"))

	succeed(t, "start", "-q", "a")
	assert.Equal(t, result{0, "three\n", ""}, run("run", "--name", "a", "--", "three"))
	assert.Contains(t, succeed(t, "ls").out, "running", "this invocation did not start it")
	r = run("run", "-d", "--name", "a", "--", "x")
	assert.Equal(t, 1, r.code)
	assert.Contains(t, r.err, "sandbox a is running")
	assert.Equal(t, result{0, "four\n", ""}, run("run", "--replace", "--name", "a", "mini", "--", "four"))
	succeed(t, "rm", "-q", "a")
	assert.Empty(t, leftovers(t, home))
}

func TestRunDetached(t *testing.T) {
	home := newGuests(t, runtimetest.Guest{})
	r := run("run", "-d", "mini", "--entrypoint=", "--", "sleep", "1000")
	require.Zero(t, r.code, r.err)
	assert.Regexp(t, `^msb-[0-9a-f]{8}\n$`, r.out)
	assert.Empty(t, r.err)
	name := strings.TrimSpace(r.out)
	golden(t, "ps-detached", succeed(t, "ps").out)
	succeed(t, "stop", name)
	assert.Empty(t, leftovers(t, home), "it had no name of its own")

	assert.Equal(t, result{0, "b\n", ""}, run("run", "-d", "-n", "b", "mini", "--", "hello"))
	assert.Equal(t, "hello\n", succeed(t, "logs", "-f", "b").out, "it ends with the sandbox")
	awaitStopped(t, "b")
	assert.Equal(t, result{0, "b\n", ""}, run("run", "-d", "-n", "b", "--", "again"))
	awaitStopped(t, "b")
	assert.Equal(t, "hello\nagain\n", succeed(t, "logs", "b").out)
}

func awaitStopped(t *testing.T, name string) {
	t.Helper()
	require.Eventually(t, func() bool { return strings.Contains(run("ls").out, "stopped") }, time.Minute, 5*time.Millisecond, name)
}

func TestCreateAndExec(t *testing.T) {
	home := newGuests(t, runtimetest.Guest{})
	r := run("create", "mini")
	require.Zero(t, r.code, r.err)
	assert.Regexp(t, `^msb-[0-9a-f]{8}\n$`, r.out)
	assert.Regexp(t, `^   ✓ Created      msb-[0-9a-f]{8}( \(.*\))?\n$`, r.err)
	assert.Equal(t, result{0, "", ""}, run("create", "-q", "--name", "a", "--label", "team=x", "mini"))
	r = run("create", "--name", "a", "mini")
	assert.Equal(t, result{1, "", "error: sandbox already exists: a\n  → choose another name, or remove that sandbox first with --replace\n"}, r)

	assert.Equal(t, result{0, "hi\n", ""}, run("exec", "a", "--", "echo", "hi"))
	assert.Equal(t, result{0, "default\n", ""}, run("exec", "a"), "its own command")
	assert.Equal(t, result{7, "", ""}, run("exec", "a", "--", "exit", "7"))
	assert.Equal(t, result{255, "", ""}, run("exec", "a", "--", "exit", "-1"), "killed by a signal")
	assert.Equal(t, result{0, "some input", ""}, msbIn(strings.NewReader("some input"), "exec", "--stream", "a", "--", "cat"))
	r = run("exec", "a", "-e", "A=1", "-w", "/w", "-u", "me", "--rlimit", "nofile=5:6", "--", "request", "x")
	require.Zero(t, r.code, r.err)
	var got proto.ExecRequest
	require.NoError(t, json.Unmarshal([]byte(r.out), &got))
	dir, user := "/w", "me"
	assert.Equal(t, proto.ExecRequest{Cmd: "request", Args: []string{"x"}, Env: []string{"A=1"}, Cwd: &dir, User: &user,
		Rlimits: []proto.Rlimit{{Resource: "nofile", Soft: 5, Hard: 6}}, Rows: 24, Cols: 80}, got)
	r = run("exec", "a", "--", "flood", "1000000")
	assert.Zero(t, r.code)
	assert.Len(t, r.out, 1000000)

	assert.Equal(t, result{1, "", "error: sandbox still running: a\n  → stop it first, or remove it all the same with --force\n"}, run("rm", "a"))
	assert.Equal(t, result{1, "", "error: sandbox still running: a\n"}, run("start", "a"))
	succeed(t, "stop", "-q", "a")
	assert.Equal(t, result{0, "hi\n", ""}, run("exec", "a", "--", "echo", "hi"), "a stopped sandbox is started for it")
	assert.Contains(t, succeed(t, "ls", "--label", "team=x").out, "stopped")
	for _, name := range strings.Fields(succeed(t, "ls", "-q").out) {
		succeed(t, "rm", "-f", name)
	}
	assert.Empty(t, leftovers(t, home))
}

func TestManyTargets(t *testing.T) {
	newGuests(t, runtimetest.Guest{})
	for _, name := range []string{"a", "b", "c"} {
		succeed(t, "create", "-q", "--name", name, "--label", "all", "--label", "name="+name, "mini")
	}
	r := run("ping", "a", "nosuch", "b")
	assert.Equal(t, 1, r.code)
	assert.Regexp(t, `^   ✓ Reachable    a \(\d+(\.\d)?(µs|ms)\)\nerror: sandbox not found: nosuch\n   ✓ Reachable    b \(.*\)\n$`, r.err)
	assert.Empty(t, r.out)
	assert.Equal(t, result{0, "", ""}, run("ping", "-q", "--touch", "a"))
	assert.Equal(t, result{0, "", "   ✓ Touched      b\n"}, run("touch", "--label", "all", "--label", "name=b"), "labels narrow down")
	r = run("stop", "c", "--label", "name=a", "c")
	assert.Equal(t, "   ✓ Stopped      c\n   ✓ Stopped      a\n", r.err, "names first, each once")
	assert.Equal(t, 1, run("ping", "-q", "a").code)
	r = run("restart", "a", "b")
	assert.Zero(t, r.code)
	assert.Equal(t, 2, strings.Count(r.err, "✓ Restarted"))
	assert.Zero(t, run("ping", "-q", "a", "b").code)
	assert.Equal(t, result{0, "", "   ✓ Stopped      a\n   ✓ Stopped      b\n"}, run("stop", "-f", "a", "b"))
	assert.Equal(t, result{0, "", "   ✓ Started      a\n"}, run("start", "a"))
	r = run("rm", "-f", "--label", "all")
	assert.Zero(t, r.code)
	assert.Equal(t, 3, strings.Count(r.err, "✓ Removed"))
}

func TestListings(t *testing.T) {
	newGuests(t, runtimetest.Guest{})
	succeed(t, "create", "-q", "--name", "b", "-c", "2", "--max-cpus", "4", "-m", "256M", "--max-memory", "1G", "--thp", "never", "mini")
	succeed(t, "create", "-q", "--name", "a", "-u", "me", "-w", "/w", "-H", "box", "--label", "team=x", "-e", "K=V", "--tmpfs", "/s:1M:noexec", "--no-net", "mini")
	succeed(t, "create", "-q", "--name", "old", "mini")
	succeed(t, "stop", "-q", "old")
	for name, line := range map[string]string{
		"ls": "ls", "ls-running": "ls --running --stopped", "ls-stopped": "list --stopped", "ls-json": "ls --format json",
		"ps": "ps", "ps-all": "status -a", "ps-json": "ps --format json", "ps-one-json": "ps b --format json", "ps-quiet": "ps -q",
		"inspect": "inspect a", "inspect-json": "inspect a --format json", "inspect-stopped-json": "inspect old --format json",
	} {
		golden(t, name, succeed(t, strings.Fields(line)...).out)
	}
}

func TestImages(t *testing.T) {
	home := newHome(t)
	r := msbIn(strings.NewReader(string(archive(t, "mini:1"))), "load", "-t", "other.example/x:2")
	assert.Equal(t, result{0, "", "   ✓ Loaded       mini:1\n   ✓ Loaded       other.example/x:2\n"}, r)
	file := filepath.Join(home, "image.tar")
	require.NoError(t, os.WriteFile(file, archive(t, "third"), 0o600))
	assert.Equal(t, result{0, "", ""}, run("image", "load", "-q", "--input", file))
	golden(t, "image-ls", succeed(t, "image", "ls").out)
	golden(t, "image-ls-json", succeed(t, "images", "--format", "json").out)
	golden(t, "image-inspect", succeed(t, "image", "inspect", "mini:1").out)
	golden(t, "image-inspect-json", succeed(t, "image", "inspect", "mini:1", "--format", "json").out)
	assert.Equal(t, "third\nother.example/x:2\nmini:1\n", succeed(t, "image", "list", "-q").out)
	r = run("image", "rm", "mini:1", "nosuch", "third")
	assert.Equal(t, 1, r.code)
	assert.Equal(t, "   ✓ Removed      mini:1\nerror: image not found: nosuch\n   ✓ Removed      third\nerror: some images failed to remove\n", r.err)
	r = msbIn(strings.NewReader("no archive"), "load")
	assert.Equal(t, 1, r.code)
	assert.Contains(t, r.err, "error: load image: ")

	runtimetest.Use(t, runtimetest.Guest{})
	succeed(t, "create", "-q", "--name", "a", "other.example/x:2")
	assert.Equal(t, result{1, "", "error: image in use by sandbox(es): a\n  → remove those sandboxes first, or the image all the same with --force\nerror: some images failed to remove\n"}, run("rmi", "other.example/x:2"))
}

func TestLogs(t *testing.T) {
	newGuests(t, runtimetest.Guest{})
	succeed(t, "create", "-q", "--name", "a", "mini")
	for _, argv := range [][]string{{"echo", "one"}, {"warn", "two"}, {"echo", "three"}} {
		succeed(t, append([]string{"exec", "a", "--"}, argv...)...)
	}
	succeed(t, "stop", "-q", "a")
	for line, want := range map[string]string{
		"logs a":                                       "one\ntwo\nthree\n",
		"logs a --tail 1":                              "three\n",
		"logs a --source stderr":                       "two\n",
		"logs a --source stderr --source stdout":       "one\ntwo\nthree\n",
		"logs a --grep ^t":                             "two\nthree\n",
		"logs a --since 1h":                            "one\ntwo\nthree\n",
		"logs a --until 2000-01-01T00:00:00Z":          "",
		"logs a --show-id":                             "[id:  1] one\n[id:  2] two\n[id:  3] three\n",
		"logs a --color always":                        "one\ntwo\nthree\n",
		"logs a --color-sessions":                      "[id:  1] one\n[id:  2] two\n[id:  3] three\n",
		"logs a --tail 0":                              "",
		"logs a --follow --until 2000-01-01T00:00:00Z": "",
	} {
		assert.Equal(t, want, succeed(t, strings.Fields(line)...).out, line)
	}
	golden(t, "logs-json", succeed(t, "logs", "a", "--json").out)
	golden(t, "logs-timestamps", succeed(t, "logs", "a", "--timestamps").out)
	system := succeed(t, "logs", "a", "--source", "system").out
	assert.Contains(t, system, "--- sandbox started ---")
	assert.Contains(t, system, "fake kernel")
}

func TestBootFailures(t *testing.T) {
	newGuests(t, runtimetest.Guest{BootFailure: &proto.CoreError{Kind: "mount", Message: "no such disk"}})
	r := run("create", "--name", "a", "mini")
	assert.Equal(t, 1, r.code)
	assert.Empty(t, r.out)
	assert.Regexp(t, `^error: failed to start "a"\n  → mount: .*no such disk\n  → run .msb logs --source system a. for full diagnostics\n$`, r.err)
	assert.Equal(t, r.err+"\n", succeed(t, "logs", "a").err)
	var line map[string]any
	require.NoError(t, json.Unmarshal([]byte(strings.SplitN(succeed(t, "logs", "a", "--json").out, "\n", 2)[0]), &line))
	assert.Equal(t, "boot-error", line["s"])
	assert.Contains(t, line["d"], `"stage":"mount"`)

	r = run("run", "mini", "--", "x")
	assert.Equal(t, 1, r.code)
	assert.Contains(t, r.err, "  → guest: fake kernel with 1 processors\n  → give the sandbox a --name to keep its logs\n")
}

func TestCrashOfTheGuest(t *testing.T) {
	home := newGuests(t, runtimetest.Guest{})
	r := run("run", "--entrypoint=", "mini", "--", "crash", "now")
	assert.Equal(t, 1, r.code)
	assert.Regexp(t, `^error: sandbox msb-[0-9a-f]{8} ended while a command ran in it\n  → connection to the guest agent ended.*\n  → unless it was ephemeral, msb logs`, r.err)
	assert.Empty(t, leftovers(t, home))
	r = run("run", "--name", "a", "--entrypoint=", "mini", "--", "crash", "now")
	assert.Equal(t, 1, r.code)
	assert.Contains(t, succeed(t, "ls").out, "crashed")
	assert.Contains(t, succeed(t, "logs", "--source", "system", "a").out, "BUG: unable to handle page fault")
}

func TestFollowedLogsEnd(t *testing.T) {
	newGuests(t, runtimetest.Guest{})
	for name, end := range map[string][]string{"removed": {"rm", "-f", "-q", "a"}, "stopped": {"stop", "-q", "a"}} {
		t.Run(name, func(t *testing.T) {
			succeed(t, "create", "-q", "--replace", "--name", "a", "mini")
			succeed(t, "exec", "a", "--", "echo", "before")
			done := make(chan result, 1)
			go func() { done <- run("logs", "-f", "a") }()
			time.Sleep(100 * time.Millisecond)
			succeed(t, "exec", "a", "--", "echo", "after")
			time.Sleep(200 * time.Millisecond)
			succeed(t, end...)
			select {
			case r := <-done:
				assert.Equal(t, result{0, "before\nafter\n", ""}, r)
			case <-time.After(20 * time.Second):
				t.Fatal("following does not end with the sandbox")
			}
		})
	}
}

func TestCopyEndpoints(t *testing.T) {
	for s, want := range map[string][2]string{
		"box:/a": {"box", "/a"}, "./box:/a": {"", "./box:/a"}, "/abs:/a": {"", "/abs:/a"}, "box:rel": {"", "box:rel"}, "plain": {"", "plain"}, ":/a": {"", ":/a"},
	} {
		name, path := endpoint(s)
		assert.Equal(t, want, [2]string{name, path}, s)
	}
}

func TestDoctor(t *testing.T) {
	home := newHome(t)
	r := run("doctor")
	assert.Empty(t, r.out, "the report is on standard error")
	for _, want := range []string{"info Platform: ", "info Version: v", "info MSB_HOME: ", "msb ", "Data root ", "Disk space ", "Guest kernel ", "CPU virt ", "KVM device ", "KVM access "} {
		assert.Contains(t, r.err, want)
	}
	assert.Equal(t, strings.Contains(r.err, "✗"), r.code == 1)
	t.Setenv("MSB_PATH", filepath.Join(home, "nowhere"))
	for _, args := range [][]string{{"doctor"}, {"check"}, {"self", "doctor"}} {
		r = run(args...)
		assert.Equal(t, 1, r.code)
		assert.Regexp(t, `✗ msb +.*no such file or directory\n`, r.err)
		assert.Regexp(t, `error: msb: .*no such file or directory\n  → let MSB_PATH name the msb command, or unset it\n`, r.err)
	}
}

// slowReader never ends.
type slowReader struct{ stop chan struct{} }

func (s slowReader) Read([]byte) (int, error) {
	<-s.stop
	return 0, io.EOF
}

func TestInputThatNeverEnds(t *testing.T) {
	newGuests(t, runtimetest.Guest{})
	in := slowReader{make(chan struct{})}
	defer close(in.stop)
	assert.Equal(t, result{0, "x\n", ""}, msbIn(in, "run", "mini", "--", "x"), "the command's end is the end")
}
