package microsandbox

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/internal/runtime/runtimetest"
)

// brancherEnv makes the test binary a program that makes a copy of that name of the sandbox
// box.
const brancherEnv = "GOMSB_TEST_BRANCHER"

func brancher(name string) int {
	ctx := context.Background()
	h, err := GetSandbox(ctx, "box")
	if err == nil {
		_, err = h.Branch(ctx, []string{name}, WithDetached())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// tidy ends sandboxes with the test.
func tidy(t *testing.T, all ...*Sandbox) {
	t.Helper()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		for _, sb := range all {
			assert.NoError(t, sb.Kill(ctx))
			_ = sb.Close() // often closed by the test
			if sb.proc != nil {
				<-sb.proc.Exited()
			}
		}
	})
}

// A brancher that is killed at any moment leaves no copy, or one that runs: nothing that
// could be started and is not what was asked for.
func TestBrancherIsKilled(t *testing.T) {
	h := newGuests(t, runtimetest.Guest{})
	box := create(t, "box", WithRootDisk(RootDisk.Managed(64)))
	runs, none := 0, 0
	for name := range killedPrograms(t, brancherEnv, 15) {
		ctx := testContext(t)
		// Its runtime may be about to come up, or to find that its checkpoint is gone.
		require.Eventually(t, func() bool {
			handle, err := GetSandbox(ctx, name)
			if IsKind(err, ErrSandboxNotFound) {
				none++
				return true
			}
			if !assert.NoError(t, err) {
				return true
			}
			if _, err := handle.Ping(ctx); err != nil {
				return false
			}
			runs++
			assert.NoFileExists(t, filepath.Join(h.sandbox(name), unbornName))
			assert.NoError(t, handle.Kill(ctx))
			assert.NoError(t, handle.Remove(ctx))
			return true
		}, time.Minute, 20*time.Millisecond)
	}
	t.Logf("%d run, %d none", runs, none)
	up, err := box.Branch(testContext(t), []string{"last"})
	require.NoError(t, err)
	tidy(t, up...)
	left, err := os.ReadDir(h.checkpoints())
	require.NoError(t, err)
	assert.Empty(t, left, "what killed ones left is gone")
	dirs, err := os.ReadDir(h.sandboxes())
	require.NoError(t, err)
	var names []string
	for _, d := range dirs {
		names = append(names, d.Name())
	}
	assert.Equal(t, []string{"box", "last"}, names)
}
