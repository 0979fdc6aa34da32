package launch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// behaviourEnv makes the test binary act as a runtime instead of running tests.
const behaviourEnv = "GOMSB_TEST_RUNTIME"

func TestMain(m *testing.M) {
	if b := os.Getenv(behaviourEnv); b != "" {
		os.Exit(fakeRuntime(b))
	}
	goleak.VerifyTestMain(m)
}

// fakeRuntime is a runtime that checks what it inherited and then does as told.
func fakeRuntime(behaviour string) int {
	switch behaviour {
	case "silent":
		time.Sleep(time.Minute)
	case "dies":
		return 3
	case "garbage":
		fmt.Println("hello")
		time.Sleep(time.Minute)
	case "other pid":
		fmt.Println(`{"pid":1}`)
		time.Sleep(time.Minute)
	}
	inv, err := Parse(os.Args[2:])
	if err == nil {
		err = inv.Load()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	lock, err := InheritedLock(inv.LifecycleLockFD)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	defer func() { _ = lock.Release() }()
	out := os.Stdout
	if inv.StartupFD >= 0 {
		out = os.NewFile(uintptr(inv.StartupFD), "startup")
	}
	if err := json.NewEncoder(out).Encode(map[string]any{"pid": os.Getpid(), "ignored": true}); err != nil {
		return 4
	}
	_ = out.Close()
	if _, err := os.Stat("/proc/self/fd/100"); behaviour == "inherits" && err != nil {
		return 5
	}
	if inv.Attached() {
		watch := os.NewFile(uintptr(inv.ParentWatchFD), "watch")
		b := make([]byte, 1)
		if _, err := io.ReadFull(watch, b); err != nil {
			return 7 // the parent went away
		}
		if WatchDetach(b[0]) {
			return 0
		}
	}
	time.Sleep(time.Minute)
	return 1
}

func options(t *testing.T, behaviour string) Options {
	t.Helper()
	c, err := Decode(document(t, nil))
	require.NoError(t, err)
	lock, err := AcquireLock(t.TempDir(), "x")
	require.NoError(t, err)
	t.Cleanup(func() { _ = lock.Release() })
	self, err := os.Executable()
	require.NoError(t, err)
	return Options{
		Binary: Binary{Path: self}, Name: "x", SandboxID: 7, VCPUs: 1, MemoryMiB: 512, Config: c, Lock: lock,
		Env: append(os.Environ(), behaviourEnv+"="+behaviour),
	}
}

func exitCode(t *testing.T, p *Process) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err := p.Wait(ctx)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	require.NoError(t, err)
	return 0
}

func TestSpawnAttached(t *testing.T) {
	p, err := Spawn(t.Context(), options(t, "runs"))
	require.NoError(t, err)
	assert.Nil(t, p.State())
	require.NoError(t, p.Close())
	require.NoError(t, p.Close())
	assert.Equal(t, 7, exitCode(t, p), "the end of the watchdog pipe reaches the runtime")
	assert.ErrorIs(t, p.Signal(syscall.SIGTERM), os.ErrProcessDone)
}

func TestSpawnDetachLater(t *testing.T) {
	p, err := Spawn(t.Context(), options(t, "runs"))
	require.NoError(t, err)
	require.NoError(t, p.Detach())
	require.NoError(t, p.Detach())
	assert.Equal(t, 0, exitCode(t, p))
}

func TestSpawnDetached(t *testing.T) {
	o := options(t, "inherits")
	o.Detached = true
	f, err := os.CreateTemp(t.TempDir(), "disk")
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	o.Inherit = []*os.File{f}
	p, err := Spawn(t.Context(), o)
	require.NoError(t, err)
	sid, err := unix.Getsid(p.PID())
	require.NoError(t, err)
	assert.Equal(t, p.PID(), sid, "it leads a session of its own")
	require.NoError(t, p.Close())
	require.NoError(t, p.Signal(syscall.SIGKILL))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	require.Error(t, p.Wait(ctx))
	assert.Equal(t, syscall.SIGKILL, p.State().Sys().(syscall.WaitStatus).Signal())
}

func TestSpawnSharesTheLock(t *testing.T) {
	o := options(t, "runs")
	dir := filepath.Dir(filepath.Dir(o.Lock.File().Name()))
	p, err := Spawn(t.Context(), o)
	require.NoError(t, err)
	require.NoError(t, o.Lock.Release())
	_, err = AcquireLock(dir, "x")
	assert.ErrorIs(t, err, ErrLocked, "the runtime still holds it")
	require.NoError(t, p.Close())
	exitCode(t, p)
	again, err := AcquireLock(dir, "x")
	require.NoError(t, err)
	require.NoError(t, again.Release())
}

func TestSpawnFails(t *testing.T) {
	for _, behaviour := range []string{"dies", "garbage", "other pid", "silent"} {
		t.Run(behaviour, func(t *testing.T) {
			o := options(t, behaviour)
			o.Timeout = 5 * time.Second
			if behaviour == "silent" {
				o.Timeout = 100 * time.Millisecond
			}
			_, err := Spawn(t.Context(), o)
			assert.ErrorIs(t, err, ErrStart)
		})
	}
	o := options(t, "runs")
	o.Binary.Path = "/does/not/exist"
	_, err := Spawn(t.Context(), o)
	assert.ErrorIs(t, err, ErrStart)
	assert.ErrorIs(t, err, os.ErrNotExist)
	o = options(t, "runs")
	o.Name = "../x"
	_, err = Spawn(t.Context(), o)
	assert.ErrorIs(t, err, ErrUsage)
	o = options(t, "runs")
	o.Lock = nil
	_, err = Spawn(t.Context(), o)
	assert.ErrorIs(t, err, ErrUsage)
}

func TestSpawnCancelled(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := Spawn(ctx, options(t, "silent"))
	assert.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestLoadRefusesBadDescriptors(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "file")
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	inv := &Invocation{ConfigFD: -1, StartupFD: -1, LifecycleLockFD: -1, ParentWatchFD: int(f.Fd()), ConfigFile: f.Name()}
	assert.ErrorIs(t, inv.Load(), ErrUsage, "a file is no pipe")
	inv.ParentWatchFD = 9999
	assert.ErrorIs(t, inv.Load(), ErrUsage, "not open")
	inv.ParentWatchFD = -1
	assert.ErrorIs(t, inv.Load(), ErrConfig, "empty document")
	inv.ConfigFile = "/does/not/exist"
	assert.ErrorIs(t, inv.Load(), ErrUsage)
	inv.ConfigFile = filepath.Join(t.TempDir(), "c")
	require.NoError(t, os.WriteFile(inv.ConfigFile, document(t, nil), 0o600))
	require.NoError(t, inv.Load())
	require.NoError(t, os.Truncate(inv.ConfigFile, maxConfig+1))
	assert.ErrorIs(t, inv.Load(), ErrUsage)
}

func TestResolve(t *testing.T) {
	home, path := t.TempDir(), t.TempDir()
	env := map[string]string{"PATH": "relative:" + path}
	getenv := func(k string) string { return env[k] }
	resolve := func(configured string) Binary {
		b, err := Resolve(configured, home, getenv)
		require.NoError(t, err)
		return b
	}
	assert.True(t, resolve("").Self)
	inPath := filepath.Join(path, "msb")
	require.NoError(t, os.WriteFile(inPath, nil, 0o644))
	assert.True(t, resolve("").Self, "not executable")
	require.NoError(t, os.Chmod(inPath, 0o755))
	assert.Equal(t, Binary{Path: inPath}, resolve(""))
	require.NoError(t, os.MkdirAll(filepath.Join(home, "bin"), 0o755))
	inHome := filepath.Join(home, "bin", "msb")
	require.NoError(t, os.WriteFile(inHome, nil, 0o755))
	assert.Equal(t, Binary{Path: inHome}, resolve(""))
	assert.Equal(t, Binary{Path: "/configured"}, resolve("/configured"))
	env["MSB_PATH"] = "/nowhere/msb"
	assert.Equal(t, Binary{Path: "/nowhere/msb"}, resolve("/configured"))
}

func TestBootErrorFile(t *testing.T) {
	dir := t.TempDir()
	_, err := ReadBootError(dir)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NoError(t, RemoveBootError(dir))
	now := time.Date(2026, 4, 30, 20, 32, 59, 688e6, time.UTC)
	_, cause := os.Open("/does/not/exist")
	e := NewBootError(StageImage, now, fmt.Errorf("root disk: %w", cause))
	e.KernelLog = []string{"panic"}
	require.NoError(t, e.Write(dir))
	raw, err := os.ReadFile(filepath.Join(dir, "boot-error.json"))
	require.NoError(t, err)
	assert.JSONEq(t, `{"t":"2026-04-30T20:32:59.688Z","stage":"image","errno":2,
		"message":"root disk: open /does/not/exist: no such file or directory (os error 2)","kernel_log":["panic"]}`, string(raw))
	got, err := ReadBootError(dir)
	require.NoError(t, err)
	assert.Equal(t, e, got)
	assert.Equal(t, e, NewBootError(StageOther, time.Time{}, fmt.Errorf("again: %w", e)), "the first stage counts")
	require.NoError(t, RemoveBootError(dir))
	_, err = ReadBootError(dir)
	require.ErrorIs(t, err, os.ErrNotExist)
}
