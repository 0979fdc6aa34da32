//go:build linux

package agent

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/guestagent/proto"
)

func TestParseMounts(t *testing.T) {
	t.Parallel()
	assert.Equal(t, []string{"/", "/data", "/a b\tc\\", "/host"}, parseMounts(`overlay / overlay rw 0 0
proc /proc proc rw 0 0
/dev/vdc /data ext4 rw 0 0
tmpfs /tmp tmpfs rw 0 0
/dev/vdd /a\040b\011c\134 ext4 rw 0 0
cgroup2 /sys/fs/cgroup cgroup2 rw 0 0
tag /host virtiofs rw 0 0
broken line
`))
}

func TestUnescape(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"": "", "/a": "/a", `/a\040b`: "/a b", `\134`: `\`, `a\`: `a\`, `a\04`: `a\04`, `a\999b`: `a\999b`, `a\400b`: `a\400b`, `\\040`: `\ `,
	} {
		assert.Equal(t, want, unescape(in), "%q", in)
	}
}

func FuzzUnescape(f *testing.F) {
	f.Add(`/a\040b\`)
	f.Fuzz(func(t *testing.T, s string) { assert.LessOrEqual(t, len(unescape(s)), len(s)) })
}

func TestFindInit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, nil, mode))
		return path
	}
	good, plain := write("good", 0o755), write("plain", 0o644)
	link := filepath.Join(dir, "link")
	require.NoError(t, os.Symlink("good", link))
	for _, path := range []string{good, link} {
		got, err := findInit(path)
		require.NoError(t, err)
		assert.Equal(t, path, got)
	}
	for path, text := range map[string]string{plain: "is not executable", dir: "is not a regular file", dir + "/none": "no such file"} {
		_, err := findInit(path)
		assert.ErrorContains(t, err, text)
	}
}

// What PID 1 leaves to its heir survives the way there.
func TestStateRoundTrip(t *testing.T) {
	t.Parallel()
	want := state{
		BootTimeNs: 1, InitTimeNs: 2, Env: []string{"A=1", "B="}, DefaultUser: "u", DefaultCwd: "/x", Restricted: true, Upper: true,
	}
	b, err := proto.AppendPayload(nil, want)
	require.NoError(t, err)
	var got state
	require.NoError(t, proto.Unmarshal(b, &got))
	assert.Equal(t, want, got)
}

// The handler that does nothing does nothing, on whatever thread and stack.
func TestSurviveSignals(t *testing.T) {
	surviveSignals()
	for range 100 {
		for _, sig := range deadly {
			require.NoError(t, unix.Kill(os.Getpid(), sig))
		}
	}
	var grow func(n int) int
	grow = func(n int) int {
		if n == 0 {
			return 0
		}
		_ = unix.Kill(os.Getpid(), unix.SIGHUP)
		return 1 + grow(n-1)
	}
	assert.Equal(t, 2000, grow(2000))
}

func TestMainIsForPID1(t *testing.T) {
	t.Parallel()
	assert.Equal(t, 2, Main(Options{}))
	assert.Positive(t, sinceBoot())
}

func TestQueueLimits(t *testing.T) {
	t.Parallel()
	total, each := queueLimits()
	assert.GreaterOrEqual(t, total, minQueues)
	assert.LessOrEqual(t, total, maxQueues)
	assert.Equal(t, total/queueParts, each)
}
