//go:build linux

package serve

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/guestagent/agent/account"
	"github.com/gomsb/gomsb/guestagent/client"
	"github.com/gomsb/gomsb/guestagent/proto"
)

func sh(script string) client.Command {
	return client.Command{Name: "/bin/sh", Args: []string{"-c", script}}
}

func collect(t testing.TB, c *client.Client, cmd client.Command, stdin string) *client.Output {
	t.Helper()
	var in io.Reader
	if stdin != "" {
		in = strings.NewReader(stdin)
	}
	out, err := c.ExecCollect(testContext(t), cmd, in)
	require.NoError(t, err)
	return out
}

func TestExec(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o755))
	for name, test := range map[string]struct {
		cmd    client.Command
		stdin  string
		stdout string
		stderr string
		code   int
	}{
		"echo":             {cmd: client.Command{Name: "echo", Args: []string{"hello"}}, stdout: "hello\n"},
		"path":             {cmd: client.Command{Name: "/bin/echo", Args: []string{"hello"}}, stdout: "hello\n"},
		"exit code":        {cmd: sh("exit 42"), code: 42},
		"exit 255":         {cmd: sh("exit 255"), code: 255},
		"killed":           {cmd: sh("kill -9 $$"), code: -1},
		"bytes":            {cmd: sh(`printf 'A\0B'`), stdout: "A\x00B"},
		"streams":          {cmd: sh("echo out; echo err >&2; exit 7"), stdout: "out\n", stderr: "err\n", code: 7},
		"stdin":            {cmd: client.Command{Name: "cat"}, stdin: "hello", stdout: "hello"},
		"cwd":              {cmd: client.Command{Name: "pwd", Dir: dir}, stdout: dir + "\n"},
		"root cwd":         {cmd: client.Command{Name: "pwd", Dir: "/"}, stdout: "/\n"},
		"env":              {cmd: client.Command{Name: "/bin/sh", Args: []string{"-c", "echo $A-$B"}, Env: []string{"A=1", "nonsense", "B=2", "A=3"}}, stdout: "3-2\n"},
		"argv":             {cmd: client.Command{Name: "/bin/sh", Args: []string{"-c", `echo "$#:$1"`, "x", "a b", ""}}, stdout: "2:a b\n"},
		"script PATH":      {cmd: sh("echo $PATH"), stdout: "/.msb/scripts:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"},
		"own PATH":         {cmd: client.Command{Name: "/bin/sh", Args: []string{"-c", "echo $PATH"}, Env: []string{"PATH=/bin"}}, stdout: "/.msb/scripts:/bin\n"},
		"scripts once":     {cmd: client.Command{Name: "/bin/sh", Args: []string{"-c", "echo $PATH"}, Env: []string{"PATH=/bin:/.msb/scripts"}}, stdout: "/bin:/.msb/scripts\n"},
		"home":             {cmd: sh("echo $HOME"), stdout: "/root\n"},
		"own home":         {cmd: client.Command{Name: "/bin/sh", Args: []string{"-c", "echo $HOME"}, Env: []string{"HOME=/x"}}, stdout: "/x\n"},
		"user":             {cmd: client.Command{Name: "/bin/sh", Args: []string{"-c", "id -u; id -g; echo $HOME"}, User: "nobody"}, stdout: "65534\n65534\n/nonexistent\n"},
		"user and group":   {cmd: client.Command{Name: "/bin/sh", Args: []string{"-c", "id -u; id -g; id -G"}, User: "4711:4712"}, stdout: "4711\n4712\n4712\n"},
		"groups":           {cmd: client.Command{Name: "/usr/bin/id", Args: []string{"-G"}, User: "daemon:0"}, stdout: "0\n"},
		"limit":            {cmd: client.Command{Name: "/bin/sh", Args: []string{"-c", "ulimit -Sn; ulimit -Hn"}, Rlimits: []proto.Rlimit{{Resource: "nofile", Soft: 100, Hard: 200}, {Resource: "bogus"}}}, stdout: "100\n200\n"},
		"limit, user, cwd": {cmd: client.Command{Name: "/bin/sh", Args: []string{"-c", "ulimit -Sn; id -u; pwd"}, User: "nobody", Dir: dir, Rlimits: []proto.Rlimit{{Resource: "nofile", Soft: 10, Hard: 20}}}, stdout: "10\n65534\n" + dir + "\n"},
		"root-only cwd":    {cmd: client.Command{Name: "/bin/sh", Args: []string{"-c", "id -u; exec /bin/pwd"}, User: "nobody", Dir: "/root"}, stdout: "65534\n/root\n"},
		"leader":           {cmd: sh("ps -o sid= -p $$ | tr -d ' ' | grep -qx $$ && echo yes"), stdout: "yes\n"},
		// Without the signals from 32 on: a test may have inherited those of a C library.
		"no signal ignored": {cmd: sh("while read k v; do case $k in SigBlk:|SigIgn:) echo $k $((0x$v & 0x7fffffff));; esac; done </proc/self/status"), stdout: "SigBlk: 0\nSigIgn: 0\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := collect(t, start(t, Config{}), test.cmd, test.stdin)
			assert.Equal(t, test.stdout, string(out.Stdout))
			assert.Equal(t, test.stderr, string(out.Stderr))
			assert.Equal(t, test.code, out.Code)
		})
	}
}

// Commands get their three descriptors and those that the test itself inherited.
func TestExecDescriptors(t *testing.T) {
	t.Parallel()
	c := start(t, Config{})
	inherited := 0
	names, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	for _, e := range names {
		fd, err := strconv.Atoi(e.Name())
		require.NoError(t, err)
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); fd > 2 && err == nil && flags&unix.FD_CLOEXEC == 0 {
			inherited++
		}
	}
	for _, limits := range [][]proto.Rlimit{nil, {{Resource: "core"}}} { // without and with the helper
		out := collect(t, c, client.Command{Name: "ls", Args: []string{"/proc/self/fd"}, Rlimits: limits}, "")
		const own = 4 // the three and the directory itself
		assert.Len(t, strings.Fields(string(out.Stdout)), own+inherited)
	}
}

func TestExecDefaults(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "passwd"), []byte("root:x:0:0::/root:/bin/sh\napp:x:1234:1235::/srv/app:/bin/sh\n"), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "group"), []byte("app:x:1235:\nextra:x:77:other,app\n"), 0o644))
	c := start(t, Config{
		Accounts:    account.Database{Passwd: filepath.Join(dir, "passwd"), Group: filepath.Join(dir, "group")},
		DefaultUser: "app", DefaultCwd: "/usr", Env: []string{"PATH=/bin:/usr/bin", "BASE=1"},
	})
	out := collect(t, c, sh("id -u; id -g; id -G; pwd; echo $HOME $BASE"), "")
	assert.Equal(t, "1234\n1235\n1235 77\n/usr\n/srv/app 1\n", string(out.Stdout))
	out = collect(t, c, client.Command{Name: "/bin/sh", Args: []string{"-c", "id -u; pwd"}, User: "root", Dir: "/tmp"}, "")
	assert.Equal(t, "0\n/tmp\n", string(out.Stdout))
}

func TestExecRestricted(t *testing.T) {
	t.Parallel()
	c := start(t, Config{Restricted: true})
	out := collect(t, c, sh("grep -E 'CapEff|CapPrm|CapInh|CapBnd|CapAmb|NoNewPrivs' /proc/self/status"), "")
	fields := map[string]string{}
	for line := range strings.Lines(string(out.Stdout)) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), ":\t")
		fields[k] = v
	}
	assert.Equal(t, "1", fields["NoNewPrivs"])
	for _, set := range []string{"CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb"} {
		bits, err := strconv.ParseUint(fields[set], 16, 64)
		require.NoError(t, err)
		assert.Zero(t, bits&(1<<unix.CAP_SYS_ADMIN), set)
	}
	bits, err := strconv.ParseUint(fields["CapEff"], 16, 64)
	require.NoError(t, err)
	assert.NotZero(t, bits&(1<<unix.CAP_NET_BIND_SERVICE), "other capabilities stay")
}

func TestExecFailures(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o755))
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), mode))
		return path
	}
	plain := file("plain", "#!/bin/sh\n", 0o644)
	noFormat := file("noformat", "hello", 0o755)
	loop := filepath.Join(dir, "loop")
	require.NoError(t, os.Symlink("loop", loop))
	for name, test := range map[string]struct {
		cmd   client.Command
		kind  proto.ExecFailureKind
		errno unix.Errno
		text  string
		stage string
	}{
		"missing path":      {client.Command{Name: "/nope"}, proto.FailNotFound, unix.ENOENT, `spawn "/nope": No such file or directory (os error 2)`, "Command::spawn"},
		"missing name":      {client.Command{Name: "nope-nope"}, proto.FailNotFound, unix.ENOENT, `spawn "nope-nope": No such file or directory (os error 2)`, "Command::spawn"},
		"empty name":        {client.Command{Name: ""}, proto.FailNotFound, unix.ENOENT, "No such file", "Command::spawn"},
		"missing tty":       {client.Command{Name: "/nope", TTY: true}, proto.FailNotFound, unix.ENOENT, "No such file", "execvp"},
		"not executable":    {client.Command{Name: plain}, proto.FailPermissionDenied, unix.EACCES, "Permission denied (os error 13)", "Command::spawn"},
		"directory":         {client.Command{Name: dir}, proto.FailPermissionDenied, unix.EACCES, "Permission denied", "Command::spawn"},
		"no format":         {client.Command{Name: noFormat}, proto.FailNotExecutable, unix.ENOEXEC, "Exec format error", "Command::spawn"},
		"loop":              {client.Command{Name: loop}, proto.FailBadArgs, unix.ELOOP, "Symbolic link loop", "Command::spawn"},
		"long name":         {client.Command{Name: strings.Repeat("x", 300)}, proto.FailBadArgs, unix.ENAMETOOLONG, "Filename too long", "Command::spawn"},
		"long arguments":    {client.Command{Name: "/bin/echo", Args: []string{strings.Repeat("x", 200<<10)}}, proto.FailBadArgs, unix.E2BIG, "Argument list too long", "Command::spawn"},
		"under a file":      {client.Command{Name: plain + "/x"}, proto.FailBadCwd, unix.ENOTDIR, "Not a directory", "Command::spawn"},
		"missing cwd":       {client.Command{Name: "/bin/echo", Dir: "/nope"}, proto.FailBadCwd, unix.ENOENT, `working directory "/nope": No such file`, "chdir"},
		"cwd is a file":     {client.Command{Name: "/bin/echo", Dir: plain}, proto.FailBadCwd, unix.ENOTDIR, "Not a directory", "chdir"},
		"unknown user":      {client.Command{Name: "/bin/echo", User: "who"}, proto.FailUserSetup, 0, "exec session error: guest user not found: who", ""},
		"unknown group":     {client.Command{Name: "/bin/echo", User: "root:who"}, proto.FailUserSetup, 0, "guest group not found: who", ""},
		"empty user":        {client.Command{Name: "/bin/echo", User: ":0"}, proto.FailUserSetup, 0, "user spec has empty user", ""},
		"empty group":       {client.Command{Name: "/bin/echo", User: "0:"}, proto.FailUserSetup, 0, "user spec has empty group", ""},
		"NUL":               {client.Command{Name: "/bin/echo", Args: []string{"a\x00b"}}, proto.FailOther, 0, "NUL byte", ""},
		"limit too high":    {client.Command{Name: "/bin/echo", User: "nobody", Rlimits: []proto.Rlimit{{Resource: "nofile", Soft: 1 << 40, Hard: 1 << 40}}}, proto.FailPermissionDenied, unix.EPERM, "Operation not permitted", "setrlimit"},
		"bad limit":         {client.Command{Name: "/bin/echo", Rlimits: []proto.Rlimit{{Resource: "core", Soft: 2, Hard: 1}}}, proto.FailOther, unix.EINVAL, "Invalid argument", "setrlimit"},
		"helper, missing":   {client.Command{Name: "nope-nope", Rlimits: []proto.Rlimit{{Resource: "core"}}}, proto.FailNotFound, unix.ENOENT, "No such file", "Command::spawn"},
		"user may not exec": {client.Command{Name: "/root/x", User: "nobody"}, proto.FailNotFound, unix.ENOENT, "No such file", "Command::spawn"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := start(t, Config{}).Exec(testContext(t), test.cmd)
			var failure *client.ExecError
			require.ErrorAs(t, err, &failure)
			assert.Equal(t, test.kind, failure.Kind)
			assert.Equal(t, int(test.errno), failure.Errno)
			assert.Contains(t, failure.Message, test.text)
			assert.Equal(t, test.stage, failure.Stage)
		})
	}
}

// A command that fails leaves neither a session nor a zombie nor a descriptor.
func TestExecFailureLeavesNothing(t *testing.T) {
	g := boot(t, Config{})
	c := g.connect(t, 0, client.Options{})
	ctx := testContext(t)
	fail := func() {
		for _, cmd := range []client.Command{{Name: "/nope"}, {Name: "/nope", TTY: true}, {Name: "/nope", Rlimits: []proto.Rlimit{{Resource: "core"}}}} {
			_, err := c.Exec(ctx, cmd)
			require.Error(t, err)
		}
	}
	fail()
	before := countFDs(t)
	for range 10 {
		fail()
	}
	assert.InDelta(t, before, countFDs(t), 2)
	assert.Zero(t, g.running())
}

func countFDs(t *testing.T) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(names)
}

func TestExecSignals(t *testing.T) {
	t.Parallel()
	c := start(t, Config{})
	ctx := testContext(t)
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGKILL, unix.SIGINT, unix.SIGUSR1} {
		e, err := c.Exec(ctx, client.Command{Name: "sleep", Args: []string{"60"}})
		require.NoError(t, err)
		require.NoError(t, e.Signal(ctx, int(sig)))
		code, err := e.Wait(ctx)
		require.NoError(t, err)
		assert.Equal(t, -1, code, "signal %d", sig)
	}
}

// Signals reach the whole group, descendants that outlive their leader included.
func TestExecSignalReachesTheGroup(t *testing.T) {
	t.Parallel()
	c := start(t, Config{})
	ctx := testContext(t)
	for name, script := range map[string]string{
		"with the leader":  "sleep 60 & sleep 60 & echo up; wait",
		"after the leader": "sleep 60 & sleep 60 & echo up",
	} {
		e, err := c.Exec(ctx, sh(script))
		require.NoError(t, err, name)
		ev, err := e.Recv(ctx)
		require.NoError(t, err, name)
		require.Equal(t, "up\n", string(ev.Data), name)
		if name == "after the leader" {
			require.Eventually(t, func() bool { return isGone(int(e.PID())) }, time.Minute, time.Millisecond)
		}
		require.NoError(t, e.Kill(ctx), name)
		_, err = e.Wait(ctx) // waits for the end of the outputs that both sleeps hold
		require.NoError(t, err, name)
	}
}

func isGone(pid int) bool {
	_, err := os.Stat("/proc/" + strconv.Itoa(pid))
	return err != nil
}

// Numbers out of range are ignored, and so is a session that is not there.
func TestExecSignalIgnored(t *testing.T) {
	t.Parallel()
	g := boot(t, Config{})
	c := g.connect(t, 0, client.Options{})
	ctx := testContext(t)
	e, err := c.Exec(ctx, client.Command{Name: "cat"})
	require.NoError(t, err)
	for _, sig := range []int{0, -1, 32, 64, 1 << 20} {
		require.NoError(t, c.SendRaw(ctx, rawFrame(t, e.ID(), proto.TypeExecSignal, proto.ExecSignal{Signal: int32(sig)})))
	}
	require.NoError(t, c.SendRaw(ctx, rawFrame(t, 4000, proto.TypeExecSignal, proto.ExecSignal{Signal: 9})))
	require.NoError(t, c.SendRaw(ctx, rawFrame(t, 4000, proto.TypeExecStdin, proto.Data{Data: []byte("x")})))
	require.NoError(t, c.SendRaw(ctx, rawFrame(t, 4000, proto.TypeExecResize, proto.ExecResize{Rows: 1, Cols: 1})))
	require.NoError(t, e.CloseStdin(ctx))
	code, err := e.Wait(ctx)
	require.NoError(t, err)
	assert.Zero(t, code)
}

func rawFrame(t *testing.T, id uint32, typ proto.Type, payload any) proto.Frame {
	t.Helper()
	b, err := proto.AppendMessage(nil, id, typ, payload)
	require.NoError(t, err)
	f, _, err := proto.ParseFrame(b)
	require.NoError(t, err)
	return f
}

// A background descendant that holds stdout delays the end, and holds nobody else up.
func TestExecBackgroundDescendant(t *testing.T) {
	t.Parallel()
	c := start(t, Config{})
	ctx := testContext(t)
	pipe := filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, unix.Mkfifo(pipe, 0o600))
	e, err := c.Exec(ctx, sh("setsid sh -c 'read x < "+pipe+"' & echo early; exit 3"))
	require.NoError(t, err)
	ev, err := e.Recv(ctx)
	require.NoError(t, err)
	require.Equal(t, "early\n", string(ev.Data))
	require.NoError(t, c.Ping(ctx))
	ended := make(chan error, 1)
	go func() {
		code, err := e.Wait(ctx)
		assert.Equal(t, 3, code)
		ended <- err
	}()
	select {
	case err := <-ended:
		require.Fail(t, "it ended while its output was open", "%v", err)
	case <-time.After(100 * time.Millisecond):
	}
	require.NoError(t, os.WriteFile(pipe, []byte("go\n"), 0o600))
	require.NoError(t, <-ended)
}

// Orphans are collected although no session knows them.
func TestOrphansAreCollected(t *testing.T) {
	require.NoError(t, unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
	defer func() { require.NoError(t, unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)) }()
	c := start(t, Config{})
	out := collect(t, c, sh("sh -c 'sleep 0.1 >/dev/null 2>&1 & echo $!'"), "")
	pid, err := strconv.Atoi(strings.TrimSpace(string(out.Stdout)))
	require.NoError(t, err)
	assert.Eventually(t, func() bool { return isGone(pid) }, time.Minute, 5*time.Millisecond)
}

func TestExecStdinLarge(t *testing.T) {
	t.Parallel()
	c := start(t, Config{})
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	out := collect(t, c, sh("sleep 0.2; sha256sum | cut -d' ' -f1"), string(data))
	assert.Equal(t, fmt.Sprintf("%x\n", sha256.Sum256(data)), string(out.Stdout))
}

// A command that does not read its input is told to the host, and holds nobody up.
func TestExecStdinBroken(t *testing.T) {
	t.Parallel()
	c := start(t, Config{})
	ctx := testContext(t)
	e, err := c.Exec(ctx, sh("exec <&-; echo closed; sleep 0.3; exit 5"))
	require.NoError(t, err)
	ev, err := e.Recv(ctx)
	require.NoError(t, err)
	require.Equal(t, "closed\n", string(ev.Data))
	_, err = e.Write([]byte("data"))
	require.NoError(t, err)
	var broken *client.StdinError
	for {
		ev, err = e.Recv(ctx)
		require.NoError(t, err)
		if ev.Kind == client.EventStdinError {
			require.ErrorAs(t, ev.Err, &broken)
			continue
		}
		break
	}
	require.NotNil(t, broken)
	assert.Equal(t, "EPIPE", broken.ErrnoName)
	assert.Equal(t, "io error: Broken pipe (os error 32)", broken.Message)
	assert.Equal(t, client.EventExited, ev.Kind)
	assert.Equal(t, 5, ev.Code)
}

// Of a client that knows no limits of input, what is beyond the queue waits; a command that
// takes none at all loses it in the end, and the others go on.
func TestExecStdinStalls(t *testing.T) {
	t.Parallel()
	g := boot(t, Config{QueueEach: 256 << 10, Stall: 200 * time.Millisecond})
	c := g.greet(t, 0, proto.Ready{Flow: true}, client.Options{})
	ctx := testContext(t)
	e, err := c.Exec(ctx, client.Command{Name: "sleep", Args: []string{"60"}})
	require.NoError(t, err)
	for range 32 {
		if _, err = e.Write(make([]byte, 64<<10)); err != nil {
			break
		}
	}
	ev, err := e.Recv(ctx)
	require.NoError(t, err)
	assert.Equal(t, client.EventStdinError, ev.Kind)
	require.NoError(t, c.Ping(ctx))
	require.NoError(t, e.Kill(ctx))
	_, err = e.Wait(ctx)
	require.NoError(t, err)
	assert.Zero(t, g.budget.used.Load())
}

// A slow reader makes a flooding command wait: nothing piles up in the guest.
func TestExecFlood(t *testing.T) {
	t.Parallel()
	g := boot(t, Config{})
	c := g.connect(t, 0, client.Options{SessionBuffer: 64 << 10})
	ctx := testContext(t)
	e, err := c.Exec(ctx, sh("yes | head -c 50000000"))
	require.NoError(t, err)
	time.Sleep(100 * time.Millisecond) // the pipes are full by now
	var total int64
	for {
		ev, err := e.Recv(ctx)
		require.NoError(t, err)
		if ev.Kind == client.EventExited {
			assert.Zero(t, ev.Code)
			break
		}
		total += int64(len(ev.Data))
	}
	assert.EqualValues(t, 50000000, total)
	assert.EqualValues(t, 50000000, g.activity.execOutput.Load())
}

// Sessions share the stream: a short command gets through while others flood.
func TestExecFairness(t *testing.T) {
	t.Parallel()
	c := start(t, Config{})
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	var wg sync.WaitGroup
	for range 4 {
		e, err := c.Exec(ctx, client.Command{Name: "yes"})
		require.NoError(t, err)
		wg.Go(func() { _, _ = e.Copy(ctx, io.Discard, io.Discard) })
	}
	for range 20 {
		out := collect(t, c, client.Command{Name: "echo", Args: []string{"hi"}}, "")
		assert.Equal(t, "hi\n", string(out.Stdout))
	}
	cancel()
	wg.Wait()
}

func TestExecManyAtOnce(t *testing.T) {
	t.Parallel()
	c := start(t, Config{})
	var wg sync.WaitGroup
	for n := range 40 {
		wg.Go(func() {
			out, err := c.ExecCollect(testContext(t), sh(fmt.Sprintf("cat; echo %d; exit %d", n, n)), strings.NewReader("in"))
			if assert.NoError(t, err) {
				assert.Equal(t, fmt.Sprintf("in%d\n", n), string(out.Stdout))
				assert.Equal(t, n, out.Code)
			}
		})
	}
	wg.Wait()
}

func TestExecTTY(t *testing.T) {
	t.Parallel()
	c := start(t, Config{})
	ctx := testContext(t)
	e, err := c.Exec(ctx, client.Command{
		Name: "/bin/sh", Args: []string{"-c", "tty; stty size; echo err >&2; read x; stty size; echo got $x; exit 6"},
		TTY: true, Rows: 33, Cols: 111, User: "nobody",
	})
	require.NoError(t, err)
	var out bytes.Buffer
	readUntil(t, e, &out, "err")
	assert.Contains(t, out.String(), "/dev/pts/")
	assert.Contains(t, out.String(), "33 111")
	require.NoError(t, e.Resize(ctx, 40, 100))
	require.NoError(t, e.CloseStdin(ctx)) // means nothing to a terminal
	_, err = e.Write([]byte("line\n"))
	require.NoError(t, err)
	code, err := e.Copy(ctx, &out, nil)
	require.NoError(t, err)
	assert.Equal(t, 6, code)
	assert.Contains(t, out.String(), "40 100")
	assert.Contains(t, out.String(), "got line")
}

func readUntil(t *testing.T, e *client.Exec, out *bytes.Buffer, text string) {
	t.Helper()
	for !strings.Contains(out.String(), text) {
		ev, err := e.Recv(testContext(t))
		require.NoError(t, err)
		require.Equal(t, client.EventStdout, ev.Kind)
		out.Write(ev.Data)
	}
}

// TestTypeAhead: keys that arrive with the request, or while the shell begins, are its
// first line.
func TestTypeAhead(t *testing.T) {
	t.Parallel()
	for shell, args := range map[string][]string{"/bin/sh": {"-i"}, "/bin/bash": {"--norc", "-i"}, "/usr/bin/busybox": {"sh"}} {
		if _, err := os.Stat(shell); err != nil {
			continue
		}
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			g := boot(t, Config{})
			r := g.raw(t)
			for n := range 10 {
				id := uint32(10 + n)
				request := proto.ExecRequest{Cmd: shell, Args: args, Env: []string{"TERM=xterm"}, TTY: true, Rows: 24, Cols: 80}
				b, err := proto.AppendMessage(nil, id, proto.TypeExecRequest, request)
				require.NoError(t, err)
				keys, err := proto.AppendDataMessage(nil, id, proto.TypeExecStdin, []byte("tty; exit 4\r"))
				require.NoError(t, err)
				if n%2 == 0 {
					_, err = g.host.Write(append(b, keys...))
				} else {
					_, err = g.host.Write(b)
					time.Sleep(time.Duration(2*n) * time.Millisecond)
					_, _ = g.host.Write(keys)
				}
				require.NoError(t, err)
				r.next(id, proto.TypeExecStarted, nil)
				shown, code := r.untilExit(id)
				assert.Contains(t, shown, "/dev/pts/")
				assert.EqualValues(t, 4, code, "%q", shown)
			}
		})
	}
}

// untilExit collects a command's output up to its exit.
func (r *raw) untilExit(id uint32) (shown string, code int32) {
	r.t.Helper()
	for {
		f, err := r.in.ReadFrame()
		require.NoError(r.t, err)
		require.Equal(r.t, id, f.ID)
		m, err := proto.ParseMessage(f)
		require.NoError(r.t, err)
		if m.Type == proto.TypeExecExited {
			var exited proto.ExecExited
			require.NoError(r.t, m.Decode(&exited))
			return shown, exited.Code
		}
		p, err := proto.DecodeData(m.Payload)
		require.NoError(r.t, err)
		shown += string(p)
	}
}

// Control characters act on the foreground group of the terminal.
func TestExecTTYInterrupt(t *testing.T) {
	t.Parallel()
	c := start(t, Config{})
	ctx := testContext(t)
	e, err := c.Exec(ctx, client.Command{Name: "/bin/sh", Args: []string{"-c", "echo up; exec sleep 60"}, TTY: true})
	require.NoError(t, err)
	var out bytes.Buffer
	readUntil(t, e, &out, "up")
	_, err = e.Write([]byte{3})
	require.NoError(t, err)
	code, err := e.Wait(ctx)
	require.NoError(t, err)
	assert.Equal(t, -1, code)
}

func TestExecTTYHelperAndBadCwd(t *testing.T) {
	t.Parallel()
	c := start(t, Config{})
	for name, cmd := range map[string]client.Command{
		"helper":       {Rlimits: []proto.Rlimit{{Resource: "nofile", Soft: 50, Hard: 60}}},
		"cwd":          {Dir: "/nope"},
		"cwd, helper":  {Dir: "/nope", Rlimits: []proto.Rlimit{{Resource: "nofile", Soft: 50, Hard: 60}}},
		"user, helper": {User: "nobody", Rlimits: []proto.Rlimit{{Resource: "nofile", Soft: 50, Hard: 60}}},
	} {
		cmd.Name, cmd.Args, cmd.TTY = "/bin/sh", []string{"-c", "tty; pwd; ulimit -n"}, true
		out := collect(t, c, cmd, "")
		lines := strings.Split(string(out.Stdout), "\r\n")
		require.Len(t, lines, 4, "%s: %q", name, out.Stdout)
		assert.Contains(t, lines[0], "/dev/pts/", name)
		if cmd.Dir != "" {
			assert.Equal(t, "/", lines[1], name)
		}
		if cmd.Rlimits != nil {
			assert.Equal(t, "50", lines[2], name)
		}
	}
}

// A client that goes away is not spoken to any more, even if its ids come back.
func TestExecOfADepartedClient(t *testing.T) {
	t.Parallel()
	g := boot(t, Config{})
	r := g.raw(t)
	r.send(5, proto.TypeExecRequest, proto.ExecRequest{Cmd: "/bin/sh", Args: []string{"-c", "while echo x; do sleep 0.01; done"}})
	r.next(5, proto.TypeExecStarted, nil)
	r.next(5, proto.TypeExecStdout, nil)
	process := g.session(5).process
	assert.EqualValues(t, 1, g.activity.execs.Load())
	r.send(0, proto.TypeClientDisconnected, proto.ClientDisconnected{IDStart: 1, IDEndExclusive: 100})
	r.send(7, proto.TypePing, proto.Empty{})
	for { // what was on its way
		f, err := r.in.ReadFrame()
		require.NoError(t, err)
		if f.ID == 7 {
			break
		}
	}
	time.Sleep(50 * time.Millisecond)
	r.send(5, proto.TypeExecRequest, proto.ExecRequest{Cmd: "/bin/echo", Args: []string{"mine"}})
	r.next(5, proto.TypeExecStarted, nil)
	var out proto.Data
	r.next(5, proto.TypeExecStdout, &out)
	assert.Equal(t, "mine\n", string(out.Data))
	r.next(5, proto.TypeExecExited, nil)
	assert.EqualValues(t, 1, g.activity.execs.Load(), "it still runs, so the guest is not idle")
	process.Signal(unix.SIGKILL)
	assert.Eventually(t, func() bool { return isGone(process.PID()) && g.activity.execs.Load() == 0 }, time.Minute, time.Millisecond)
}
