package microsandbox

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/internal/runtime/runtimetest"
	"github.com/gomsb/gomsb/rootfs/ext4"
)

// creatorEnv makes the test binary a program that creates the sandbox of that name.
const creatorEnv = "GOMSB_TEST_CREATOR"

func creator(name string) int {
	_, err := CreateSandbox(context.Background(), name, WithImage(testImage), WithRootDisk(RootDisk.Managed(64)),
		WithPatches(Patch.Text("/etc/made", name, PatchOptions{})), WithDetached())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// killedPrograms runs the test binary n times with names of sandboxes in the variable env:
// the first time to its end, then killed at any moment of as long a life. It yields each
// name once its program is gone.
func killedPrograms(t *testing.T, env string, n int) iter.Seq[string] {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	return func(yield func(string) bool) {
		lifetime := time.Duration(0)
		for i := range n {
			name := "s" + strconv.Itoa(i)
			cmd := exec.CommandContext(testContext(t), self, "-test.run=^$") // no tests, whatever happens
			cmd.Stderr = os.Stderr
			cmd.Env = append(os.Environ(), env+"="+name)
			began := time.Now()
			require.NoError(t, cmd.Start())
			if i == 0 {
				require.NoError(t, cmd.Wait())
				lifetime = time.Since(began)
			} else {
				time.Sleep(rand.N(lifetime))
				_ = cmd.Process.Kill() // it may have ended
				_ = cmd.Wait()
			}
			if !yield(name) {
				return
			}
		}
	}
}

// A creator that is killed at any moment leaves no sandbox, or a whole one: whatever the
// catalogue knows has its root disk, or says that it has not, and the name can be had
// again.
func TestCreatorIsKilled(t *testing.T) {
	h := newGuests(t, runtimetest.Guest{})
	whole, none := 0, 0
	for name := range killedPrograms(t, creatorEnv, 20) {
		ctx := testContext(t)
		upper := filepath.Join(h.sandbox(name), upperName)
		handle, err := GetSandbox(ctx, name)
		if IsKind(err, ErrSandboxNotFound) {
			none++
		} else {
			require.NoError(t, err)
			require.NoError(t, handle.Kill(ctx))
			if f, err := os.Open(upper); err == nil {
				info, err := ext4.Inspect(f)
				require.NoError(t, f.Close())
				require.NoError(t, err)
				assert.Equal(t, int64(64<<20), info.Size)
				assert.Contains(t, readImage(t, upper), name)
				whole++
			} else {
				require.ErrorIs(t, err, os.ErrNotExist)
				_, err = StartSandbox(ctx, name)
				require.ErrorContains(t, err, "remove the sandbox and create it again")
			}
		}
		sb := create(t, name, WithReplace())
		assert.FileExists(t, upper)
		require.NoError(t, sb.Kill(ctx))
		require.NoError(t, RemoveSandbox(ctx, name))
	}
	t.Logf("%d whole, %d none", whole, none)
	assert.Empty(t, traces(t, h), "the last creator was not killed")
}
