package runtime

import (
	"bytes"
	"context"
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
	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/guestagent/client"
	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/internal/runtime/guesttest"
	"github.com/gomsb/gomsb/internal/store"
)

// One whole life, looked at from all sides.
func TestLife(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	require.NoError(t, os.WriteFile(filepath.Join(h.config.LogDir, "boot-error.json"), []byte("old"), 0o644))
	require.NoError(t, os.MkdirAll(h.config.RuntimeDir, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(h.config.RuntimeDir, "heartbeat.json"), []byte("old"), 0o644))
	h.env = []string{"MSB_KRUN_KERNEL_CMDLINE=extra=1"}
	p := h.spawn(fakePlan{})
	c := p.dial()
	assert.Equal(t, guesttest.Ready, c.Ready())
	assert.Equal(t, uint32(1), c.IDs().Start)

	// The rows and files while it runs.
	box, run := h.rows()
	assert.Equal(t, store.Running, box.Status)
	assert.True(t, run.Active)
	assert.Equal(t, p.PID(), run.PID)
	assert.Nil(t, run.ExitCode)
	st, err := os.Stat(h.config.AgentSock)
	require.NoError(t, err)
	assert.Equal(t, os.ModeSocket|0o600, st.Mode())
	st, err = os.Stat(filepath.Dir(h.config.AgentSock))
	require.NoError(t, err)
	assert.Equal(t, os.ModeDir|0o700, st.Mode())
	target, err := os.Readlink(launch.AgentLink(h.config.RunDir, sandboxName))
	require.NoError(t, err)
	assert.Equal(t, "../sandboxes/"+launch.Hash24(sandboxName)+"/agent.sock", target)
	assert.DirExists(t, filepath.Join(h.config.RuntimeDir, "scripts"))
	assert.NoFileExists(t, filepath.Join(h.config.LogDir, "boot-error.json"))
	for fd, want := range map[string]string{"0": os.DevNull, "1": os.DevNull, "2": filepath.Join(h.config.LogDir, "runtime.log")} {
		got, err := os.Readlink(filepath.Join("/proc", itoa(p.PID()), "fd", fd))
		require.NoError(t, err)
		assert.Equal(t, want, got, "descriptor %s", fd)
	}

	// What clients do, in the order of the observed log.
	assert.Equal(t, "hello\n", p.do(c, "echo hello"))
	p.do(c, "warn err")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := c.ExecCollect(ctx, client.Command{Name: "cat"}, strings.NewReader("abc\n"))
	require.NoError(t, err)
	assert.Equal(t, "abc\n", string(out.Stdout))
	tty, err := c.Exec(ctx, client.Command{Name: "cat", TTY: true})
	require.NoError(t, err)
	_, err = tty.Write([]byte("/dev/pts/0\r\n"))
	require.NoError(t, err)
	require.NoError(t, tty.CloseStdin(ctx))
	_, err = tty.Wait(ctx)
	require.NoError(t, err)
	_, err = c.ExecCollect(ctx, client.Command{Name: "no-such-command"}, nil)
	assert.ErrorAs(t, err, new(*client.ExecError))

	// A second connection has its own ids.
	other := p.dial()
	assert.Equal(t, uint32(33554432), other.IDs().Start)
	require.NoError(t, other.Ping(ctx))
	require.NoError(t, other.Close())

	require.NoError(t, shutdown(c))
	assert.Equal(t, 0, p.code())
	box, run = h.rows()
	assert.Equal(t, store.Stopped, box.Status)
	assert.Empty(t, box.ActiveConfig)
	assert.False(t, run.Active)
	assert.Equal(t, store.ShutdownRequested, run.Reason)
	assert.Equal(t, 0, *run.ExitCode)
	assert.False(t, run.TerminatedAt.Before(run.StartedAt))
	h.assertNothingLeft()
	assert.Equal(t, loggedStart+
		`"s":"stdout","d":"hello\n","id":1}`+"\n"+
		`"s":"stderr","d":"err\n","id":2}`+"\n"+
		`"s":"stdout","d":"abc\n","id":3}`+"\n"+
		`"s":"output","d":"/dev/pts/0\r\n","id":4}`+"\n"+
		loggedEnd, h.execLog())

	given := h.machine()
	assert.Equal(t, 2, given.VCPUs)
	assert.Equal(t, 512, given.MemoryMiB)
	assert.False(t, given.Ephemeral)
	assert.Equal(t, []Disk{{Path: *h.config.Rootfs.Disk, Format: "raw", Serial: "vda", Root: true, Own: true}}, given.Disks)
	assert.Equal(t, "transparent_hugepage=madvise extra=1", given.Words)
	assert.Equal(t, filepath.Join(h.dir, "cache", "gomsb"), given.CacheDir)
	assert.Equal(t, 50*time.Millisecond, given.StatsInterval)
	assert.Empty(t, given.Kernel)
	assert.Contains(t, h.log("kernel.log"), "second agent false, other port false")
	for line := range strings.Lines(h.log("runtime.log")) {
		assert.Regexp(t, `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (DEBUG|INFO|WARN|ERROR) `, line)
	}

	beat, err := os.ReadFile(filepath.Join(h.config.RuntimeDir, "heartbeat.json"))
	require.NoError(t, err)
	assert.Regexp(t, regexp.MustCompile(`^\{"heartbeat_seq":\d+,"activity_seq":\d+,"timestamp":"[^"]+Z","last_activity":"[^"]+Z",`+
		`"active_exec_sessions":\d+,"active_fs_streams":0,"active_tcp_streams":0,"activity_counters":\{"host_messages":0,`+
		`"guest_messages":0,"exec_output_bytes":0,"fs_bytes":0,"tcp_bytes":0\}\}$`), string(beat))
}

func itoa(n int) string {
	b, _ := json.Marshal(n)
	return string(b)
}

// The socket is there before the guest, and silent until that is ready.
func TestSocketIsSilentUntilReady(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	p := h.spawn(fakePlan{NeverReady: true})
	require.Eventually(t, func() bool { return strings.Contains(h.log("kernel.log"), "second agent") }, patience, 5*time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := client.Dial(ctx, h.config.AgentSock, client.Options{})
	assert.ErrorIs(t, err, context.DeadlineExceeded, "not refused, not closed: nothing")
	require.NoError(t, p.Signal(syscall.SIGTERM))
	assert.Equal(t, 0, p.code())
	_, run := h.rows()
	assert.Equal(t, store.Signal, run.Reason)
	assert.Empty(t, h.execLog(), "it never started")
}

// A runtime that was killed leaves its files and rows to the next one.
func TestKilledAndStartedAgain(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.options = detached
	p := h.spawn(fakePlan{})
	p.do(p.dial(), "echo one")
	require.NoError(t, p.Signal(syscall.SIGKILL))
	<-p.Exited()
	assert.FileExists(t, h.config.AgentSock)
	box, run := h.rows()
	assert.True(t, run.Active)
	db := h.open()
	box, err := db.Reconcile(t.Context(), box.ID, nil)
	require.NoError(t, err)
	assert.Equal(t, store.Crashed, box.Status)
	_, ok, err := db.StartSandbox(t.Context(), box.ID, "{}")
	require.NoError(t, err)
	require.True(t, ok)
	require.NoError(t, db.Close())

	left := filepath.Join(h.config.SandboxesDir, sandboxName, "bases")
	require.NoError(t, os.MkdirAll(filepath.Join(left, "1"), 0o700))
	p = h.spawn(fakePlan{})
	p.do(p.dial(), "echo two")
	assert.NoDirExists(t, left, "copies of a run that is over need its bases no more")
	require.NoError(t, p.Signal(syscall.SIGTERM))
	assert.Equal(t, 0, p.code())
	_, second := h.rows()
	assert.Equal(t, run.ID+1, second.ID)
	assert.Equal(t, loggedStart+`"s":"stdout","d":"one\n","id":1}`+"\n"+
		loggedStart+`"s":"stdout","d":"two\n","id":1}`+"\n"+loggedEnd, h.execLog(), "sessions count from 1 again")
	h.assertNothingLeft()
}

// While a runtime lives no second one starts, with or without a controller.
func TestSecondInstanceIsRefused(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	p := h.spawn(fakePlan{})
	c := p.dial()
	_, err := launch.AcquireLock(h.config.RunDir, sandboxName)
	require.ErrorIs(t, err, launch.ErrLocked)
	code, text := h.raw(fakePlan{}, nil, h.arguments("--config-file", h.configFile())...)
	assert.Equal(t, 1, code)
	assert.Contains(t, text, "sandbox error: sandbox is already running")
	assert.Equal(t, "still here\n", p.do(c, "echo still here"))
	_, run := h.rows()
	assert.Equal(t, p.PID(), run.PID)
	require.NoError(t, shutdown(c))
	assert.Equal(t, 0, p.code())
}

// Without a controller's descriptors a runtime takes the lock itself and speaks on
// standard output.
func TestStartWithoutController(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.config.Startup = &launch.Startup{Cmd: "echo", Args: []string{"hi"}}
	code, text := h.raw(fakePlan{}, nil, h.arguments("--config-file="+h.configFile())...)
	assert.Equal(t, 0, code)
	assert.Empty(t, text, "standard error goes to the log")
	assert.Equal(t, loggedStart+`"s":"stdout","d":"hi\n","id":1}`+"\n"+loggedEnd, h.execLog())
	h.assertNothingLeft()
}

func TestUsageErrorsLeaveNothing(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	file, err := os.CreateTemp(h.dir, "file")
	require.NoError(t, err)
	defer func() { _ = file.Close() }()
	at97 := make([]*os.File, 97-3+1)
	at97[97-3] = file
	empty := filepath.Join(h.dir, "empty")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	for name, c := range map[string]struct {
		files []*os.File
		args  []string
	}{
		"nothing":            {nil, nil},
		"unknown flag":       {nil, h.arguments("--config-file", h.configFile(), "--bogus")},
		"no configuration":   {nil, h.arguments("--config-file", empty)},
		"missing file":       {nil, h.arguments("--config-file", filepath.Join(h.dir, "none"))},
		"closed descriptor":  {nil, h.arguments("--config-fd", "96")},
		"watch fd no pipe":   {at97, h.arguments("--config-file", h.configFile(), "--parent-watch-fd", "97")},
		"watch fd elsewhere": {at97, h.arguments("--config-file", h.configFile(), "--parent-watch-fd", "3")},
		"0.5.7":              {nil, h.arguments("--agent-sock", "/s", "--db-path", "/d")},
	} {
		t.Run(name, func(t *testing.T) {
			code, text := h.raw(fakePlan{}, c.files, c.args...)
			assert.Equal(t, 2, code)
			assert.True(t, strings.HasPrefix(text, "sandbox error: invalid sandbox invocation"), text)
			assert.Empty(t, h.log("runtime.log"))
			assert.NoDirExists(t, h.config.RunDir)
		})
	}
}

// Descriptors that nobody explained stay open: a controller locks disks with them.
func TestUnknownDescriptorsStayOpen(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	disk, err := os.CreateTemp(h.dir, "disk")
	require.NoError(t, err)
	require.NoError(t, unix.Flock(int(disk.Fd()), unix.LOCK_EX|unix.LOCK_NB))
	h.options = func(o *launch.Options) { o.Inherit = []*os.File{disk} }
	p := h.spawn(fakePlan{})
	c := p.dial()
	path := disk.Name()
	require.NoError(t, disk.Close())
	again, err := os.Open(path)
	require.NoError(t, err)
	defer func() { _ = again.Close() }()
	assert.ErrorIs(t, unix.Flock(int(again.Fd()), unix.LOCK_EX|unix.LOCK_NB), unix.EWOULDBLOCK)
	require.NoError(t, shutdown(c))
	assert.Equal(t, 0, p.code())
	assert.NoError(t, unix.Flock(int(again.Fd()), unix.LOCK_EX|unix.LOCK_NB))
}

func TestEphemeralLeavesNothing(t *testing.T) {
	t.Parallel()
	for name, broken := range map[string]bool{"clean": false, "boot failure": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHome(t)
			db := h.open()
			_, err := db.DeleteSandbox(t.Context(), h.id)
			require.NoError(t, err)
			row, err := db.InsertSandbox(t.Context(), store.NewSandbox{Name: sandboxName, Config: "{}", Status: store.Running, Ephemeral: true})
			require.NoError(t, err)
			h.id = row.ID
			dir := filepath.Join(h.config.SandboxesDir, sandboxName)
			p := h.spawn(fakePlan{DiesAtBoot: broken})
			if broken {
				assert.Equal(t, 1, p.code())
				assert.FileExists(t, filepath.Join(dir, "logs", "boot-error.json"), "its controller still reads it")
			} else {
				c := p.dial()
				assert.True(t, h.machine().Ephemeral)
				require.NoError(t, shutdown(c))
				assert.Equal(t, 0, p.code())
				assert.NoDirExists(t, dir)
				_, err = db.SandboxByID(t.Context(), h.id)
				assert.ErrorIs(t, err, store.ErrNotFound)
			}
			require.NoError(t, db.Close())
		})
	}
}

// A guest that prints without end fills neither memory nor disk, and loses nothing.
func TestFlood(t *testing.T) {
	t.Parallel()
	const size = 24 << 20
	h := newHome(t)
	p := h.spawn(fakePlan{})
	c := p.dial()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	e, err := c.Exec(ctx, client.Command{Name: "flood", Args: []string{itoa(size)}})
	require.NoError(t, err)
	var n counter
	_, err = e.Copy(ctx, &n, nil)
	require.NoError(t, err)
	assert.Equal(t, counter(size), n)
	assert.Less(t, p.memory("RssAnon"), memoryFactor*30<<20)
	require.NoError(t, shutdown(c))
	assert.Equal(t, 0, p.code())
	for _, name := range []string{"exec.log", "exec.log.1", "exec.log.2"} {
		st, err := os.Stat(filepath.Join(h.config.LogDir, name))
		require.NoError(t, err)
		assert.LessOrEqual(t, st.Size(), int64(10<<20), name)
	}
}

type counter int

func (c *counter) Write(p []byte) (int, error) { *c += counter(len(p)); return len(p), nil }

// memory reads a line of /proc/<pid>/status, bytes.
func (p *process) memory(key string) int {
	p.home.t.Helper()
	b, err := os.ReadFile(filepath.Join("/proc", itoa(p.PID()), "status"))
	require.NoError(p.home.t, err)
	for line := range bytes.Lines(b) {
		if rest, ok := bytes.CutPrefix(line, []byte(key+":")); ok {
			var kb int
			require.NoError(p.home.t, json.Unmarshal(bytes.TrimSpace(bytes.TrimSuffix(bytes.TrimSpace(rest), []byte("kB"))), &kb))
			return kb << 10
		}
	}
	p.home.t.Fatalf("no %s in status", key)
	return 0
}

// The process itself is small: what it needs to start is given back.
func TestIdleRuntimeIsSmall(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	p := h.spawn(fakePlan{BeatMS: 1000})
	c := p.dial()
	p.do(c, "echo x")
	var anon int
	assert.Eventually(t, func() bool {
		anon = p.memory("RssAnon")
		return anon < memoryFactor*8<<20
	}, patience, 100*time.Millisecond)
	t.Logf("anonymous memory %d KiB, %s", anon>>10, "all resident "+itoa(p.memory("VmRSS")>>10)+" KiB")
	require.NoError(t, shutdown(c))
	assert.Equal(t, 0, p.code())
}
