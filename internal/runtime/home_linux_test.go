package runtime

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/guestagent/client"
	"github.com/gomsb/gomsb/guestagent/proto"
	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/internal/store"
)

const sandboxName = "box"

// patience bounds everything that should happen soon, on a machine that may be busy.
const patience = 20 * time.Second

// home is a home directory with one sandbox in it.
type home struct {
	t       *testing.T
	dir     string
	id      int32
	config  *launch.Config
	memory  uint32
	options func(*launch.Options) // last changes
	env     []string
}

// newHome makes a home whose sandbox is about to start.
func newHome(t *testing.T) *home {
	t.Helper()
	// Not t.TempDir: a socket's path must be short.
	dir, err := os.MkdirTemp("", "rt")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	box := filepath.Join(dir, "sandboxes", sandboxName)
	require.NoError(t, os.MkdirAll(filepath.Join(box, "logs"), 0o755))
	disk := filepath.Join(box, "disk.raw")
	require.NoError(t, os.WriteFile(disk, make([]byte, 4096), 0o644))
	run := filepath.Join(dir, "run")
	sock, err := launch.AgentSocket(run, sandboxName)
	require.NoError(t, err)
	h := &home{t: t, dir: dir, memory: 512}
	h.config = &launch.Config{
		DBPath: filepath.Join(dir, "db", "msb.db"), DBConnectTimeoutSecs: 30,
		LogDir: filepath.Join(box, "logs"), RuntimeDir: filepath.Join(box, "runtime"),
		SandboxesDir: filepath.Join(dir, "sandboxes"), RunDir: run, CPUPlacement: "inherit",
		CPULeaseDir: filepath.Join(run, "cpu-leases"), WritebackLeaseDir: filepath.Join(run, "writeback-leases"),
		AgentSock: sock, LibkrunfwPath: filepath.Join(dir, "lib", "libkrunfw.so.5.6.1"), THP: "madvise",
		Metrics: launch.Metrics{SampleIntervalMS: pointer(uint64(50))},
		Rootfs:  launch.Rootfs{Disk: &disk, DiskFormat: pointer("raw")}, SandboxSlot: 1,
	}
	db := h.open()
	row, err := db.InsertSandbox(t.Context(), store.NewSandbox{Name: sandboxName, Config: "{}", ActiveConfig: "{}", Status: store.Running})
	require.NoError(t, err)
	require.NoError(t, db.Close())
	h.id = row.ID
	return h
}

func (h *home) open() *store.Store {
	h.t.Helper()
	db, err := store.Open(context.Background(), h.config.DBPath, store.Options{Create: true})
	require.NoError(h.t, err)
	return db
}

// rows reads the sandbox and its newest run.
func (h *home) rows() (store.Sandbox, store.Run) {
	h.t.Helper()
	db := h.open()
	defer func() { _ = db.Close() }()
	b, err := db.SandboxByID(h.t.Context(), h.id)
	require.NoError(h.t, err)
	r, err := db.LastRun(h.t.Context(), h.id)
	require.NoError(h.t, err)
	return b, r
}

// process is a runtime under test.
type process struct {
	*launch.Process
	home *home
}

func environment(t *testing.T, plan fakePlan) string {
	t.Helper()
	text, err := json.Marshal(plan)
	require.NoError(t, err)
	return machineEnv + "=" + string(text)
}

// spawn starts a runtime the way a controller does.
func (h *home) spawn(plan fakePlan) *process {
	h.t.Helper()
	lock, err := launch.AcquireLock(h.config.RunDir, sandboxName)
	require.NoError(h.t, err)
	defer func() { require.NoError(h.t, lock.Release()) }()
	self, err := os.Executable()
	require.NoError(h.t, err)
	o := launch.Options{
		Binary: launch.Binary{Path: self}, Name: sandboxName, SandboxID: h.id, VCPUs: 2, MemoryMiB: h.memory,
		LogLevel: "debug", Config: h.config, Lock: lock, Env: append(append(os.Environ(), environment(h.t, plan)), h.env...),
	}
	if h.options != nil {
		h.options(&o)
	}
	p, err := launch.Spawn(h.t.Context(), o)
	require.NoError(h.t, err)
	h.t.Cleanup(func() {
		_ = p.Signal(syscall.SIGKILL)
		_ = p.Close()
		<-p.Exited()
		if h.t.Failed() {
			h.t.Log("runtime.log:\n" + h.log("runtime.log"))
		}
		assert.NotContains(h.t, h.log("runtime.log"), "DATA RACE")
	})
	return &process{Process: p, home: h}
}

// detached is an option.
func detached(o *launch.Options) { o.Detached = true }

// code waits for the end.
func (p *process) code() int {
	p.home.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := p.Wait(ctx)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	require.NoError(p.home.t, err)
	return 0
}

// dial connects a client once the guest is ready.
func (p *process) dial() *client.Client {
	p.home.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := client.Dial(ctx, p.home.config.AgentSock, client.Options{HandshakeTimeout: patience, RetryFor: patience})
	require.NoError(p.home.t, err)
	p.home.t.Cleanup(func() { _ = c.Close() })
	return c
}

// do runs a command of the fake agent.
func (p *process) do(c *client.Client, line string) string {
	p.home.t.Helper()
	cmd, args := words(line)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := c.ExecCollect(ctx, client.Command{Name: cmd, Args: args}, nil)
	require.NoError(p.home.t, err)
	return string(out.Stdout)
}

// begin starts a command without waiting for its end.
func (p *process) begin(c *client.Client, line string) {
	p.home.t.Helper()
	cmd, args := words(line)
	_, err := c.Exec(p.home.t.Context(), client.Command{Name: cmd, Args: args})
	require.NoError(p.home.t, err)
}

// log reads a log file, "" if there is none.
func (h *home) log(name string) string {
	b, err := os.ReadFile(filepath.Join(h.config.LogDir, name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		h.t.Error(err)
	}
	return string(b)
}

// execLog is exec.log without its times, whose form is checked.
func (h *home) execLog() string {
	h.t.Helper()
	var b strings.Builder
	for lines := bufio.NewScanner(strings.NewReader(h.log("exec.log"))); lines.Scan(); {
		line := lines.Text()
		require.Greater(h.t, len(line), 32, line)
		stamp, rest := line[6:30], line[32:]
		require.Equal(h.t, `{"t":"`+stamp+`",`, line[:32])
		_, err := time.Parse("2006-01-02T15:04:05.000Z", stamp)
		require.NoError(h.t, err)
		b.WriteString(rest + "\n")
	}
	return b.String()
}

const (
	loggedStart = `"s":"system","d":"--- sandbox started ---\n"}` + "\n"
	loggedEnd   = `"s":"system","d":"--- sandbox stopped ---\n"}` + "\n"
)

// assertNothingLeft checks what must be gone after any end.
func (h *home) assertNothingLeft() {
	h.t.Helper()
	assert.NoFileExists(h.t, h.config.AgentSock)
	assert.NoDirExists(h.t, filepath.Dir(h.config.AgentSock))
	_, err := os.Lstat(launch.AgentLink(h.config.RunDir, sandboxName))
	assert.ErrorIs(h.t, err, os.ErrNotExist)
	// A child of another test has this process's descriptors between its fork and its exec,
	// and with them the locks.
	assert.Eventually(h.t, func() bool {
		lock, err := launch.AcquireLock(h.config.RunDir, sandboxName)
		return err == nil && lock.Release() == nil
	}, patience, 10*time.Millisecond, "the lock is free")
}

// machine is what the fake machine was given.
func (h *home) machine() (given struct {
	VCPUs, MemoryMiB int
	Disks            []Disk
	Kernel, Words    string
	CacheDir         string
	StatsInterval    time.Duration
	Ephemeral        bool
}) {
	h.t.Helper()
	line, _, _ := strings.Cut(h.log("kernel.log"), "\r\n")
	require.NoError(h.t, json.Unmarshal([]byte(strings.TrimPrefix(line, "machine ")), &given), line)
	return given
}

// raw runs a runtime without a controller and returns its exit code and standard error.
func (h *home) raw(plan fakePlan, files []*os.File, args ...string) (int, string) {
	h.t.Helper()
	self, err := os.Executable()
	require.NoError(h.t, err)
	cmd := exec.Command(self, append([]string{"sandbox"}, args...)...)
	cmd.Env = append(os.Environ(), environment(h.t, plan))
	cmd.ExtraFiles = files
	var stderr strings.Builder
	cmd.Stderr = &stderr
	err = cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		require.NoError(h.t, err)
		return 0, stderr.String()
	}
	return exit.ExitCode(), stderr.String()
}

// configFile writes the configuration where --config-file finds it.
func (h *home) configFile() string {
	h.t.Helper()
	b, err := h.config.Encode()
	require.NoError(h.t, err)
	path := filepath.Join(h.dir, "config.json")
	require.NoError(h.t, os.WriteFile(path, b, 0o600))
	return path
}

// arguments are those of a sandbox that nobody watches.
func (h *home) arguments(more ...string) []string {
	return append([]string{
		"--name", sandboxName, "--sandbox-id", fmt.Sprint(h.id), "--vcpus", "1", "--memory-mib", "128",
	}, more...)
}

func shutdown(c *client.Client) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return c.Shutdown(ctx)
}

// bootFailure is a shorthand.
func bootFailure(kind proto.ErrorKind, text string) *proto.CoreError {
	return &proto.CoreError{Kind: kind, Message: text}
}
