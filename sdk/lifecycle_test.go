package microsandbox

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/guestagent/proto"
	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/internal/runtime/runtimetest"
	"github.com/gomsb/gomsb/internal/store"
)

func TestLifeOfASandbox(t *testing.T) {
	h := newGuests(t, runtimetest.Guest{})
	ctx := testContext(t)
	_, err := GetSandbox(ctx, "a")
	require.True(t, IsKind(err, ErrSandboxNotFound))
	assert.EqualError(t, err, "sandbox not found: a")

	sb := create(t, "a")
	assert.Equal(t, "a", sb.Name())
	owns, err := sb.OwnsLifecycle()
	require.NoError(t, err)
	assert.True(t, owns)
	out, err := sb.Exec(ctx, "echo", []string{"hello"})
	require.NoError(t, err)
	assert.Equal(t, "hello\n", out.Stdout())
	assert.True(t, out.Success())
	ping, err := sb.Ping(ctx)
	require.NoError(t, err)
	assert.Equal(t, "a", ping.Name)
	assert.Positive(t, ping.Latency)
	first, err := sb.Touch(ctx)
	require.NoError(t, err)
	second, err := sb.Touch(ctx)
	require.NoError(t, err)
	assert.Greater(t, second.ActivitySeq, first.ActivitySeq)

	err = RemoveSandbox(ctx, "a")
	require.True(t, IsKind(err, ErrSandboxStillRunning))
	assert.EqualError(t, err, "sandbox still running: a")
	_, err = StartSandbox(ctx, "a")
	require.True(t, IsKind(err, ErrSandboxStillRunning))

	require.NoError(t, sb.Stop(ctx))
	assert.Equal(t, SandboxStatusStopped, status(t, "a"))
	require.NoError(t, sb.Stop(ctx), "stopping what has stopped is no error")
	require.NoError(t, sb.Close())
	assert.True(t, IsKind(sb.Close(), ErrInvalidHandle))
	assert.False(t, sb.OwnsLifecycleOrFalse())
	_, err = sb.Exec(ctx, "echo", nil)
	assert.True(t, IsKind(err, ErrInvalidHandle))

	handle, err := GetSandbox(ctx, "a")
	require.NoError(t, err)
	_, err = handle.Ping(ctx)
	assert.True(t, IsKind(err, ErrSandboxNotRunning))
	assert.NotEmpty(t, handle.ConfigJSON())
	assert.Empty(t, handle.ActiveConfigJSON())
	assert.False(t, handle.CreatedAt().IsZero())
	result, err := handle.WaitUntilStopped(ctx)
	require.NoError(t, err)
	assert.Equal(t, "ShutdownRequested", value(result.Source))
	assert.Equal(t, 0, *result.ExitCode)

	again, err := handle.Start(ctx)
	require.NoError(t, err)
	out, err = again.Exec(ctx, "echo", []string{"again"})
	require.NoError(t, err)
	assert.Equal(t, "again\n", out.Stdout())
	require.NoError(t, again.Close())
	assert.Equal(t, SandboxStatusStopped, status(t, "a"))

	require.NoError(t, handle.Stop(ctx))
	require.NoError(t, handle.Kill(ctx))
	require.NoError(t, handle.Remove(ctx))
	assert.Equal(t, SandboxStatus("gone"), status(t, "a"))
	assert.True(t, IsKind(handle.Remove(ctx), ErrSandboxNotFound))
	assert.NoError(t, handle.Stop(ctx), "what is gone has stopped")
	assert.Empty(t, traces(t, h))
}

func TestNamesAreTakenOnce(t *testing.T) {
	newGuests(t, runtimetest.Guest{})
	ctx := testContext(t)
	old := create(t, "a", WithDetached())
	_, err := CreateSandbox(ctx, "a", WithImage(testImage))
	require.True(t, IsKind(err, ErrSandboxAlreadyExists))
	assert.EqualError(t, err, "sandbox already exists: a")
	for _, replace := range []SandboxOption{WithReplace(), WithReplaceWithTimeout(0)} {
		sb := create(t, "a", replace)
		out, err := sb.Exec(ctx, "echo", []string{"new"})
		require.NoError(t, err)
		assert.Equal(t, "new\n", out.Stdout())
	}
	_, err = old.Exec(ctx, "echo", nil)
	assert.True(t, IsKind(err, ErrSandboxNotRunning), "%v", err)
}

func TestRaceOfCreators(t *testing.T) {
	h := newGuests(t, runtimetest.Guest{BootTime: 50 * time.Millisecond})
	ctx := testContext(t)
	const creators = 6
	var wg sync.WaitGroup
	var all [creators]*Sandbox
	var errs [creators]error
	for i := range creators {
		wg.Go(func() { all[i], errs[i] = CreateSandbox(ctx, "a", WithImage(testImage)) })
	}
	wg.Wait()
	made := 0
	for i := range creators {
		if errs[i] == nil {
			made++
			require.NoError(t, all[i].Stop(ctx))
			require.NoError(t, all[i].Close())
			continue
		}
		assert.True(t, IsKind(errs[i], ErrSandboxAlreadyExists), "%v", errs[i])
	}
	assert.Equal(t, 1, made)
	require.NoError(t, RemoveSandbox(ctx, "a"))
	assert.Empty(t, traces(t, h))
}

func TestKilledRuntime(t *testing.T) {
	h := newGuests(t, runtimetest.Guest{})
	ctx := testContext(t)
	sb := create(t, "a")
	require.NoError(t, syscall.Kill(runtimePID(t, h, "a"), syscall.SIGKILL))
	<-sb.proc.Exited()
	assert.Equal(t, SandboxStatusCrashed, status(t, "a"))
	_, err := sb.Exec(ctx, "echo", nil)
	assert.True(t, IsKind(err, ErrSandboxNotRunning), "%v", err)
	again, err := StartSandbox(ctx, "a")
	require.NoError(t, err, "a crash does not keep it from being started")
	require.NoError(t, again.Kill(ctx))
	assert.Equal(t, SandboxStatusStopped, status(t, "a"), "this one was meant to end")
	require.NoError(t, again.Close())
	require.NoError(t, RemoveSandbox(ctx, "a"))
	assert.Empty(t, traces(t, h))
}

func TestKillDoesNotWaitForTheParentToReap(t *testing.T) {
	newGuests(t, runtimetest.Guest{})
	ctx := testContext(t)
	sb := create(t, "a", WithDetached())
	h, err := GetSandbox(ctx, "a")
	require.NoError(t, err)
	require.NoError(t, h.Kill(ctx))
	assert.Equal(t, SandboxStatusStopped, status(t, "a"))
	<-sb.proc.Exited()
}

func TestCrashingGuest(t *testing.T) {
	newGuests(t, runtimetest.Guest{})
	ctx := testContext(t)
	sb := create(t, "a")
	_, err := sb.Exec(ctx, "crash", []string{"now"})
	require.True(t, IsKind(err, ErrSandboxNotRunning), "%v", err)
	result, err := sb.WaitUntilStopped(ctx)
	require.NoError(t, err)
	assert.Equal(t, SandboxStatusCrashed, result.Status)
	assert.Equal(t, "Failed", value(result.Source))
	entries, err := sb.Logs(ctx, LogOptions{Sources: []LogSource{LogSourceSystem}})
	require.NoError(t, err)
	assert.Contains(t, strings.Join(texts(entries), ""), "BUG: unable to handle page fault")
}

func TestEphemeral(t *testing.T) {
	h := newGuests(t, runtimetest.Guest{})
	ctx := testContext(t)
	sb := create(t, "a", WithEphemeral(true))
	require.NoError(t, sb.Stop(ctx))
	assert.Equal(t, SandboxStatus("gone"), status(t, "a"))
	result, err := sb.WaitUntilStopped(ctx)
	require.NoError(t, err)
	assert.Equal(t, SandboxStatusStopped, result.Status)
	assert.Empty(t, traces(t, h))

	sb = create(t, "b", WithEphemeral(true))
	require.NoError(t, sb.Kill(ctx))
	assert.Empty(t, traces(t, h), "a killed runtime cannot clean up: the caller does")

	sb = create(t, "c", WithEphemeral(true))
	require.NoError(t, syscall.Kill(runtimePID(t, h, "c"), syscall.SIGKILL))
	<-sb.proc.Exited()
	page, err := ListSandboxes(ctx)
	require.NoError(t, err)
	assert.Empty(t, page.Sandboxes, "whoever looks first removes it")
	assert.Empty(t, traces(t, h))
}

// TestRemovalIsWaitedFor: an ephemeral sandbox that has ended has its name until it is removed.
func TestRemovalIsWaitedFor(t *testing.T) {
	h := newGuests(t, runtimetest.Guest{})
	ctx := testContext(t)
	sb := create(t, "a", WithEphemeral(true))
	require.NoError(t, syscall.Kill(runtimePID(t, h, "a"), syscall.SIGKILL))
	<-sb.proc.Exited()
	lock, err := launch.AcquireLock(h.run(), "a") // as somebody who is about to remove it
	require.NoError(t, err)
	waited := make(chan error)
	go func() {
		r, err := sb.WaitUntilStopped(ctx)
		if err == nil {
			assert.Equal(t, SandboxStatusCrashed, r.Status)
		}
		waited <- err
	}()
	select {
	case err := <-waited:
		require.Fail(t, "it has not been removed", "%v", err)
	case <-time.After(200 * time.Millisecond):
	}
	require.NoError(t, lock.Release())
	require.NoError(t, <-waited)
	assert.Equal(t, SandboxStatus("gone"), status(t, "a"))
	assert.Empty(t, traces(t, h))
}

func TestCancelledCreationLeavesNothing(t *testing.T) {
	h := newGuests(t, runtimetest.Guest{BootTime: time.Hour})
	ctx, cancel := context.WithCancel(testContext(t))
	time.AfterFunc(200*time.Millisecond, cancel)
	begin := time.Now()
	_, err := CreateSandbox(ctx, "a", WithImage(testImage))
	require.True(t, IsKind(err, ErrCancelled), "%v", err)
	assert.ErrorContains(t, err, "context canceled")
	assert.Less(t, time.Since(begin), abortGrace, "the runtime ends when it is told")
	assert.Equal(t, SandboxStatus("gone"), status(t, "a"))
	assert.Empty(t, traces(t, h))
}

func TestFailedBoot(t *testing.T) {
	h := newGuests(t, runtimetest.Guest{BootFailure: &proto.CoreError{Kind: "mount", Message: "no such disk"}})
	ctx := testContext(t)
	_, err := CreateSandbox(ctx, "a", WithImage(testImage))
	var start *StartError
	require.ErrorAs(t, err, &start)
	assert.ErrorContains(t, err, `failed to start "a": mount: `)
	assert.ErrorContains(t, err, "no such disk")
	assert.False(t, start.Removed)
	assert.Equal(t, SandboxStatusStopped, status(t, "a"))
	handle, err := GetSandbox(ctx, "a")
	require.NoError(t, err)
	require.NotNil(t, handle.BootFailure())
	assert.Equal(t, "mount", handle.BootFailure().Stage)
	require.NoError(t, handle.Remove(ctx))

	_, err = CreateSandbox(ctx, "b", WithImage(testImage), WithEphemeral(true))
	require.ErrorAs(t, err, &start)
	assert.True(t, start.Removed)
	require.NotNil(t, start.Failure)
	assert.Contains(t, strings.Join(start.Failure.KernelLog, "\n"), "fake kernel", "the last words survive the sandbox")
	assert.Empty(t, traces(t, h))

	runtimetest.Use(t, runtimetest.Guest{BuildError: "no processor"})
	_, err = CreateSandbox(ctx, "c", WithImage(testImage))
	require.ErrorAs(t, err, &start)
	assert.Equal(t, "build_vm", start.Failure.Stage)

	runtimetest.Use(t, runtimetest.Guest{})
	sb, err := StartSandbox(ctx, "c")
	require.NoError(t, err)
	assert.Nil(t, readBootFailure(h.logs("c")), "a start that works forgets the one that did not")
	require.NoError(t, sb.Close())
}

func TestMissingRuntime(t *testing.T) {
	h := newGuests(t, runtimetest.Guest{})
	t.Setenv("MSB_PATH", filepath.Join(h.root, "nowhere"))
	_, err := CreateSandbox(testContext(t), "a", WithImage(testImage))
	assert.ErrorContains(t, err, "check MSB_PATH")
	assert.ErrorIs(t, err, os.ErrNotExist)
}

func TestStubbornGuestIsEnded(t *testing.T) {
	newGuests(t, runtimetest.Guest{IgnoreStop: true})
	ctx := testContext(t)
	sb := create(t, "a")
	begin := time.Now()
	require.NoError(t, sb.Stop(ctx, WithStopTimeout(100*time.Millisecond)))
	assert.Less(t, time.Since(begin), 1500*time.Millisecond)
	assert.Equal(t, SandboxStatusStopped, status(t, "a"))
}

func TestAbandonedStart(t *testing.T) {
	h := newGuests(t, runtimetest.Guest{})
	ctx := testContext(t)
	insert := func(name string, ephemeral bool) {
		s, err := store.Open(ctx, h.database(), store.Options{})
		require.NoError(t, err)
		defer func() { _ = s.Close() }()
		_, err = s.InsertSandbox(ctx, store.NewSandbox{Name: name, Config: "{}", Status: store.Running, Ephemeral: ephemeral})
		require.NoError(t, err)
	}
	insert("a", false)
	insert("b", true)
	lock, err := h.lock(ctx, "a", nil)
	require.NoError(t, err)
	assert.Equal(t, SandboxStatusRunning, status(t, "a"), "somebody is about to start it")
	require.NoError(t, lock.Release())
	assert.Equal(t, SandboxStatusStopped, status(t, "a"), "its controller died")
	assert.Equal(t, SandboxStatus("gone"), status(t, "b"))
}

func TestDetach(t *testing.T) {
	newGuests(t, runtimetest.Guest{})
	ctx := testContext(t)
	sb := create(t, "a") // attached
	require.NoError(t, sb.Detach(ctx))
	assert.True(t, IsKind(sb.Detach(ctx), ErrInvalidHandle))
	h, err := GetSandbox(ctx, "a")
	require.NoError(t, err)
	other, err := h.Connect(ctx)
	require.NoError(t, err)
	assert.False(t, other.OwnsLifecycleOrFalse())
	out, err := other.Exec(ctx, "echo", []string{"still-alive"})
	require.NoError(t, err)
	assert.Equal(t, "still-alive\n", out.Stdout())
	require.NoError(t, other.Close())
	assert.Equal(t, SandboxStatusRunning, status(t, "a"), "this handle did not own it")
	fast, err := ConnectSandbox(ctx, "a")
	require.NoError(t, err)
	assert.Equal(t, "/bin/sh", fast.DefaultShell())
	argv, err := fast.CommandFor("x")
	require.NoError(t, err)
	assert.Equal(t, []string{"x"}, argv)
	require.NoError(t, fast.Close())
	_, err = ConnectSandbox(ctx, "nobody")
	assert.True(t, IsKind(err, ErrSandboxNotRunning))
	require.NoError(t, h.Stop(ctx))
}

func TestRequests(t *testing.T) {
	newGuests(t, runtimetest.Guest{})
	ctx := testContext(t)
	for name, c := range map[string]struct {
		do   func(*SandboxHandle) error
		want string
	}{
		"stop":  {func(h *SandboxHandle) error { return h.RequestStop(ctx) }, "ShutdownRequested"},
		"drain": {func(h *SandboxHandle) error { return h.RequestDrain(ctx) }, "DrainRequested"},
		"kill":  {func(h *SandboxHandle) error { return h.RequestKill(ctx) }, "ShutdownRequested"},
	} {
		t.Run(name, func(t *testing.T) {
			sb := create(t, name, WithDetached())
			h, err := GetSandbox(ctx, name)
			require.NoError(t, err)
			require.NoError(t, c.do(h))
			r, err := sb.WaitUntilStopped(ctx)
			require.NoError(t, err)
			assert.Equal(t, SandboxStatusStopped, r.Status)
			assert.Equal(t, c.want, value(r.Source))
			assert.True(t, IsKind(c.do(h), ErrSandboxNotRunning))
		})
	}
}

func TestStartupCommand(t *testing.T) {
	h := newGuests(t, runtimetest.Guest{})
	ctx := testContext(t)
	for i := range 5 { // it may end before or after its creator is connected
		sb := create(t, "a", WithDetached(), WithStartup("echo", "from", "startup"), WithReplace())
		r, err := sb.WaitUntilStopped(ctx)
		require.NoError(t, err, i)
		assert.Equal(t, SandboxStatusStopped, r.Status)
		assert.Equal(t, "Completed", value(r.Source))
		entries, err := sb.Logs(ctx, LogOptions{})
		require.NoError(t, err)
		assert.Equal(t, []string{"from startup\n"}, texts(entries))
		require.NoError(t, sb.Detach(ctx))
	}
	sb := create(t, "b", WithDetached(), WithStartup("exit", "3"))
	r, err := sb.WaitUntilStopped(ctx)
	require.NoError(t, err)
	assert.Equal(t, "Failed", value(r.Source))
	assert.Equal(t, 3, *r.ExitCode)
	handle, err := GetSandbox(ctx, "b")
	require.NoError(t, err)
	again, err := handle.StartCommand(ctx, "sleep", "1000")
	require.NoError(t, err)
	assert.Equal(t, SandboxStatusRunning, status(t, "b"))
	require.NoError(t, again.Kill(ctx))
	require.NoError(t, again.Detach(ctx))
	<-again.proc.Exited()
	for range 3 {
		gone := create(t, "c", WithDetached(), WithEphemeral(true), WithStartup("exit", "0"))
		_, err = gone.WaitUntilStopped(ctx)
		require.NoError(t, err)
	}
	_, err = CreateSandbox(ctx, "d", WithImage(testImage), WithDetached(), WithCmd(), WithStartupDefault())
	assert.True(t, IsKind(err, ErrNoDefaultCommand))
	require.NoError(t, RemoveSandbox(ctx, "a"))
	require.NoError(t, RemoveSandbox(ctx, "b"))
	assert.Empty(t, traces(t, h))
}

func TestList(t *testing.T) {
	newGuests(t, runtimetest.Guest{})
	ctx := testContext(t)
	page, err := ListSandboxes(ctx)
	require.NoError(t, err)
	assert.Empty(t, page.Sandboxes)
	for name, labels := range map[string]map[string]string{
		"one": {"owner": "A", "tier": "web"}, "two": {"owner": "A", "tier": "job"}, "three": {"owner": "B"},
	} {
		sb := create(t, name, WithLabels(labels), WithDetached())
		require.NoError(t, sb.Kill(ctx))
	}
	names := func(opts ...SandboxListOption) (all []string) {
		cursor := ""
		for {
			page, err := ListSandboxesWith(ctx, append(opts, WithListLimit(1), WithListCursor(cursor))...)
			require.NoError(t, err)
			for _, h := range page.Sandboxes {
				all = append(all, h.Name())
				assert.Equal(t, SandboxStatusStopped, h.Status())
				assert.Equal(t, testImage, h.Image())
			}
			if page.NextCursor == nil {
				return all
			}
			cursor = *page.NextCursor
		}
	}
	assert.ElementsMatch(t, []string{"one", "two", "three"}, names())
	assert.ElementsMatch(t, []string{"one", "two"}, names(WithListLabels(map[string]string{"owner": "A"})))
	assert.Equal(t, []string{"one"}, names(WithListLabels(map[string]string{"owner": "A", "tier": "web"})))
	_, err = ListSandboxesWith(ctx, WithListCursor("x"))
	assert.True(t, IsKind(err, ErrInvalidArgument))
}

func TestForeignProcessIsNoRuntime(t *testing.T) {
	assert.False(t, isRuntime(os.Getpid(), 1), "a number that was given to another process")
	assert.False(t, isRuntime(0, 1))
	assert.False(t, isRuntime(1<<30, 1))
	assert.Nil(t, openProcess(os.Getpid(), 1))
}

func TestImageInUse(t *testing.T) {
	newGuests(t, runtimetest.Guest{})
	ctx := testContext(t)
	sb := create(t, "a")
	err := Image.Remove(ctx, testImage, false)
	require.True(t, IsKind(err, ErrImageInUse))
	assert.EqualError(t, err, "image in use by sandbox(es): a")
	require.NoError(t, sb.Stop(ctx))
	require.NoError(t, Image.Remove(ctx, testImage, true))
	err = Image.Remove(ctx, testImage, true)
	require.True(t, IsKind(err, ErrImageNotFound))
	assert.EqualError(t, err, "image not found: "+testImage)
	_, err = StartSandbox(ctx, "a")
	assert.True(t, IsKind(err, ErrImageNotFound), "%v", err)
	require.NoError(t, RemoveSandbox(ctx, "a"))
}

func TestLostDatabaseKnowsCachedImages(t *testing.T) {
	h := newGuests(t, runtimetest.Guest{})
	require.NoError(t, os.RemoveAll(filepath.Dir(h.database())))
	sb := create(t, "a")
	require.NoError(t, sb.Stop(testContext(t)))
	images, err := Image.List(testContext(t))
	require.NoError(t, err)
	assert.Len(t, images, 1)
}

func TestStartError(t *testing.T) {
	cause := errors.New("why")
	e := &StartError{Name: "a", Cause: cause}
	assert.EqualError(t, e, `failed to start "a": why`)
	assert.ErrorIs(t, e, cause)
}

func TestOtherBackendsAreRefused(t *testing.T) {
	newHome(t)
	t.Setenv("MSB_BACKEND", "cloud")
	t.Setenv("MSB_API_KEY", "key")
	ctx := testContext(t)
	_, err := CreateSandbox(ctx, "a", WithImage(testImage))
	assert.True(t, IsKind(err, ErrUnsupportedOperation))
	_, err = ListSandboxes(ctx)
	assert.True(t, IsKind(err, ErrUnsupportedOperation))
	_, err = ConnectSandbox(ctx, "a")
	assert.True(t, IsKind(err, ErrUnsupportedOperation))
	t.Setenv("MSB_BACKEND", "local")
	_, err = ListSandboxes(ctx)
	assert.NoError(t, err)
}

func TestStartedAsRuntime(t *testing.T) {
	env := func(v string) func(string) string {
		return func(k string) string { return map[string]string{"MSB_GOMSB_RUNTIME": v}[k] }
	}
	assert.True(t, startedAsRuntime([]string{"p", "sandbox", "--name"}, env("1")))
	assert.False(t, startedAsRuntime([]string{"p", "sandbox"}, env("")), "the program's own argument")
	assert.False(t, startedAsRuntime([]string{"p", "other"}, env("1")))
	assert.False(t, startedAsRuntime([]string{"p"}, env("1")))
}
