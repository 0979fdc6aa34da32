package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/oci"
	"github.com/gomsb/gomsb/oci/manifest"
)

// victimCache names the cache that a copy of the test binary fills until it is killed.
const victimCache = "GOMSB_TEST_VICTIM_CACHE"

// victim is the body of that copy.
func victim(t testing.TB, dir string) {
	c, err := Open(dir)
	require.NoError(t, err)
	c.Platform = manifest.Platform{OS: "linux", Architecture: "amd64"}
	raw := docker(t, image("app", base(t), top(t), pack(t, file("bulk", strings.Repeat("bulk", 1<<19)))))
	fmt.Println("ready")
	for {
		_, err := c.Load(t.Context(), bytes.NewReader(raw), LoadOptions{})
		require.NoError(t, err)
		_, _, err = c.Remove(t.Context(), "app")
		require.NoError(t, err)
	}
}

// TestKilledProcessesLeaveAWorkingCache kills a process that loads and removes an image
// at many moments: what it leaves is either no image or a whole one, and no lock.
func TestKilledProcessesLeaveAWorkingCache(t *testing.T) {
	if dir := os.Getenv(victimCache); dir != "" {
		victim(t, dir)
	}
	t.Parallel()
	c := open(t)
	whole := 0
	for i := range 25 {
		kill(t, c.dir, time.Duration(i)*1700*time.Microsecond)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		got, err := c.Image(ctx, "app")
		if err == nil {
			whole++
			checkRoot(t, got)
		} else {
			require.True(t, errors.Is(err, oci.ErrNotFound), "%v", err)
		}
		cancel()
	}
	got, err := load(t, c, docker(t, image("app", base(t), top(t))), LoadOptions{})
	require.NoError(t, err)
	checkRoot(t, got[0])
	t.Logf("a whole image was left %d times of 25", whole)
}

// kill starts a victim, lets it work for a while once it is ready, and kills it.
func kill(t *testing.T, dir string, after time.Duration) {
	t.Helper()
	process := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilled", "-test.timeout=60s")
	process.Env = append(os.Environ(), victimCache+"="+dir)
	out, err := process.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, process.Start())
	ready := make([]byte, 5)
	_, err = io.ReadFull(out, ready)
	require.NoError(t, err)
	require.Equal(t, "ready", string(ready))
	<-time.After(after)
	require.NoError(t, process.Process.Kill())
	require.Error(t, process.Wait(), "a killed process does not succeed")
}
