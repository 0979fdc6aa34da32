//go:build linux

package spawn

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/guestagent/proto"
)

func TestMain(m *testing.M) {
	if IsHelper() {
		RunHelper()
	}
	os.Exit(m.Run())
}

func TestEachCandidate(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		name, path string
		answers    map[string]error // ENOENT unless listed
		tried      []string
		want       error
	}{
		"path":            {"/bin/x", "/a", map[string]error{"/bin/x": nil}, []string{"/bin/x"}, nil},
		"relative path":   {"./x", "/a", nil, []string{"./x"}, unix.ENOENT},
		"empty":           {"", "/a", nil, nil, unix.ENOENT},
		"second":          {"x", "/a:/b:/c", map[string]error{"/b/x": nil}, []string{"/a/x", "/b/x"}, nil},
		"nowhere":         {"x", "/a:/b", nil, []string{"/a/x", "/b/x"}, unix.ENOENT},
		"forbidden":       {"x", "/a:/b", map[string]error{"/a/x": unix.EACCES}, []string{"/a/x", "/b/x"}, unix.EACCES},
		"forbidden, then": {"x", "/a:/b", map[string]error{"/a/x": unix.EACCES, "/b/x": nil}, []string{"/a/x", "/b/x"}, nil},
		"not a directory": {"x", "/a:/b", map[string]error{"/a/x": unix.ENOTDIR}, []string{"/a/x", "/b/x"}, unix.ENOENT},
		"no format":       {"x", "/a:/b", map[string]error{"/a/x": unix.ENOEXEC}, []string{"/a/x"}, unix.ENOEXEC},
		"empty entry":     {"x", ":/b", map[string]error{"/b/x": nil}, []string{"x", "/b/x"}, nil},
		"too long":        {strings.Repeat("x", 256), "/a", nil, nil, unix.ENAMETOOLONG},
	} {
		var tried []string
		err := eachCandidate(test.name, test.path, func(path string) error {
			tried = append(tried, path)
			if err, ok := test.answers[path]; ok {
				return err
			}
			return unix.ENOENT
		})
		assert.Equal(t, test.want, err, name)
		assert.Equal(t, test.tried, tried, name)
	}
}

func TestPathOf(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "/x", pathOf([]string{"A=1", "PATH=/x"}))
	assert.Equal(t, fallbackPath, pathOf([]string{"XPATH=/x"}))
	assert.Empty(t, pathOf([]string{"PATH="}))
}

// run starts a command that prints to a file, and returns what it printed.
func run(t *testing.T, c *Command) (string, error) {
	t.Helper()
	out, err := os.CreateTemp(t.TempDir(), "out")
	require.NoError(t, err)
	defer out.Close()
	null, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer null.Close()
	c.Stdio = [3]int{int(null.Fd()), int(out.Fd()), int(out.Fd())}
	pid, err := Start(c)
	if err != nil {
		return "", err
	}
	var status unix.WaitStatus
	_, err = unix.Wait4(pid, &status, 0, nil)
	require.NoError(t, err)
	text, err := os.ReadFile(out.Name())
	require.NoError(t, err)
	return string(text), nil
}

// Names relative to the working directory mean the command's, not the agent's.
func TestRelativeNames(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "sub"), 0o755))
	for _, name := range []string{"here", "sub/there"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\necho "+name+"\n"), 0o755))
	}
	for _, limits := range [][]Rlimit{nil, {{Resource: unix.RLIMIT_CORE}}} { // without and with the helper
		for _, c := range []Command{
			{Name: "./here", Dir: dir}, {Name: "sub/../here", Dir: dir},
			{Name: "here", Dir: dir, Env: []string{"PATH=/nope::/bin"}}, {Name: "here", Dir: dir, Env: []string{"PATH=."}},
			{Name: "there", Dir: dir, Env: []string{"PATH=sub"}},
		} {
			c.Rlimits = limits
			out, err := run(t, &c)
			require.NoError(t, err, "%+v", c)
			assert.Contains(t, []string{"here\n", "sub/there\n"}, out)
		}
	}
}

// TestUsualTimerSlack: a command is not as lazy as a thread that Go's monitor has started.
func TestUsualTimerSlack(t *testing.T) {
	t.Parallel()
	for name, limits := range map[string][]Rlimit{"without the helper": nil, "with the helper": {{Resource: unix.RLIMIT_CORE}}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			runtime.LockOSThread() // which ends with this goroutine
			require.NoError(t, unix.Prctl(unix.PR_SET_TIMERSLACK, 4_000_000, 0, 0, 0))
			out, err := run(t, &Command{Name: "/bin/cat", Args: []string{"/proc/self/timerslack_ns"}, Rlimits: limits})
			require.NoError(t, err)
			assert.Equal(t, "50000\n", out)
		})
	}
}

// Large plans do not fit the pipe at once.
func TestHelperWithALargePlan(t *testing.T) {
	t.Parallel()
	args := slices.Repeat([]string{strings.Repeat("x", 1000)}, 500)
	out, err := run(t, &Command{Name: "/bin/echo", Args: args, Rlimits: []Rlimit{{Resource: unix.RLIMIT_CORE}}})
	require.NoError(t, err)
	assert.Equal(t, strings.Join(args, " ")+"\n", out)
}

// The helper's own environment and descriptors do not reach the command.
func TestHelperLeavesNothing(t *testing.T) {
	t.Parallel()
	out, err := run(t, &Command{Name: "/usr/bin/env", Env: []string{"A=1"}, Rlimits: []Rlimit{{Resource: unix.RLIMIT_CORE}}})
	require.NoError(t, err)
	assert.Equal(t, "A=1\n", out)
	out, err = run(t, &Command{Name: "/bin/sh", Args: []string{"-c", "ls /proc/self/fd"}, Env: []string{"PATH=/bin"}, Restricted: true})
	require.NoError(t, err)
	assert.NotContains(t, strings.Fields(out), "4")
}

func TestFailurePayload(t *testing.T) {
	t.Parallel()
	p := (&Command{Name: "x"}).failed(stageExec, unix.ENOENT).Payload()
	assert.Equal(t, proto.FailNotFound, p.Kind)
	assert.EqualValues(t, 2, *p.Errno)
	assert.Equal(t, "ENOENT", *p.ErrnoName)
	assert.Equal(t, "Command::spawn", *p.Stage)
	assert.Equal(t, `spawn "x": No such file or directory (os error 2)`, p.Message)
	for s, kind := range map[stage]proto.ExecFailureKind{
		stageDir: proto.FailBadCwd, stageProfile: proto.FailUserSetup, stageUser: proto.FailUserSetup,
		stageRlimit: proto.FailPermissionDenied, stagePlan: proto.FailOther,
	} {
		f := (&Command{Name: "x"}).failed(s, unix.EPERM)
		assert.Equal(t, kind, f.Kind)
		assert.NotEmpty(t, f.Stage)
	}
	p = UserFailure(errors.New("guest user not found: x")).Payload()
	assert.Equal(t, proto.FailUserSetup, p.Kind)
	assert.Nil(t, p.Errno)
	assert.Nil(t, p.ErrnoName)
	assert.Nil(t, p.Stage)
	assert.Equal(t, "exec session error: guest user not found: x", p.Message)
	p = PTYFailure(unix.ENOSPC).Payload()
	assert.Equal(t, proto.FailPtySetup, p.Kind)
	assert.EqualValues(t, 28, *p.Errno)
	assert.Equal(t, proto.FailResourceLimit, PipeFailure("x", unix.EMFILE).Kind)
}

func TestOpenPTY(t *testing.T) {
	t.Parallel()
	master, slave, err := OpenPTY(12, 34)
	require.NoError(t, err)
	defer closeAll([]int{master, slave})
	size, err := unix.IoctlGetWinsize(slave, unix.TIOCGWINSZ)
	require.NoError(t, err)
	assert.EqualValues(t, 12, size.Row)
	assert.EqualValues(t, 34, size.Col)
	require.NoError(t, Resize(master, 5, 6))
	size, err = unix.IoctlGetWinsize(slave, unix.TIOCGWINSZ)
	require.NoError(t, err)
	assert.EqualValues(t, 5, size.Row)
	for _, fd := range []int{master, slave} {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		require.NoError(t, err)
		assert.NotZero(t, flags&unix.FD_CLOEXEC)
	}
	require.ErrorIs(t, Resize(-1, 1, 1), unix.EBADF)
}

func TestUnscoreOOM(t *testing.T) {
	t.Parallel()
	UnscoreOOM(os.Getpid()) // only raises or keeps the score; nothing to see but no crash
	UnscoreOOM(1 << 30)
	score, err := os.ReadFile("/proc/self/oom_score_adj")
	require.NoError(t, err)
	assert.Equal(t, "0\n", string(score))
}
