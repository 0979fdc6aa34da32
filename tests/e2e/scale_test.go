//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/internal/residue"
	msb "github.com/gomsb/gomsb/sdk"
)

// residueNow is what sandboxes have left by now.
func residueNow(t *testing.T) residue.Residue {
	t.Helper()
	r, err := residue.Of(os.Getenv("MSB_HOME"))
	require.NoError(t, err)
	return r
}

// noTemplateIsMade waits for the end of processes that make the boot templates of earlier
// tests.
func noTemplateIsMade(t *testing.T) {
	t.Helper()
	eventually(t, "nobody makes a boot template any more", func() bool {
		files, err := filepath.Glob("/proc/[0-9]*/cmdline")
		require.NoError(t, err)
		return !slices.ContainsFunc(files, func(f string) bool {
			b, err := os.ReadFile(f)
			return err == nil && bytes.Contains(b, []byte("\x00sandbox\x00template\x00"))
		})
	})
}

// sameResidue asserts that nothing more is there than before.
func sameResidue(t *testing.T, before residue.Residue) {
	t.Helper()
	var after residue.Residue
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		if after = residueNow(t); assert.ObjectsAreEqual(before, after) {
			return
		}
	}
	assert.Equal(t, before, after)
}

// together calls f for each name, with no more than most calls at a time.
func together(t *testing.T, most int, names []string, f func(ctx context.Context, name string) error) {
	t.Helper()
	g, ctx := errgroup.WithContext(t.Context())
	g.SetLimit(most)
	for _, name := range names {
		g.Go(func() error { return f(ctx, name) })
	}
	require.NoError(t, g.Wait())
}

// TestManyAtOnce has small sandboxes all run at once, each of which answers, and finds the
// host as it was when they are gone. It logs what each costs beyond its guest's memory.
func TestManyAtOnce(t *testing.T) {
	t.Setenv("MSB_GOMSB_TEMPLATES", "off") // a template that is made meanwhile would stay
	count := 4
	if os.Getenv(fullEnv) != "" {
		count = 50
	}
	var names []string
	for range count {
		names = append(names, newName(t))
	}
	warm := create(t) // makes what the first sandbox makes for all
	require.NoError(t, warm.Stop(within(t, patience)))
	require.NoError(t, msb.RemoveSandbox(t.Context(), warm.Name()))
	touchLocks(t, names)
	noTemplateIsMade(t)
	before := residueNow(t)

	begin := time.Now()
	const most = 2 // boot at a time: each has to be ready in time, and they share a processor
	together(t, most, names, func(ctx context.Context, name string) error {
		_, err := msb.CreateSandbox(ctx, name, msb.WithImage("mini"), msb.WithMemory(64), msb.WithDetached())
		return err
	})
	t.Logf("%d sandboxes started in %v", count, time.Since(begin).Round(time.Millisecond))
	logOverhead(t, "idle", names)

	begin = time.Now()
	together(t, count, names, func(ctx context.Context, name string) error {
		h, err := msb.GetSandbox(ctx, name)
		if err != nil {
			return err
		}
		sb, err := h.Connect(ctx)
		if err != nil {
			return err
		}
		defer func() { _ = sb.Close() }()
		out, err := sb.Exec(ctx, "echo", []string{name})
		if err == nil && out.Stdout() != name+"\n" {
			err = fmt.Errorf("%s: exit code %d, %q%q", name, out.ExitCode(), out.Stdout(), out.Stderr())
		}
		return err
	})
	t.Logf("all answered in %v", time.Since(begin).Round(time.Millisecond))
	logOverhead(t, "after a command", names)

	together(t, most, names, func(ctx context.Context, name string) error {
		h, err := msb.GetSandbox(ctx, name)
		if err != nil {
			return err
		}
		if err := h.Stop(ctx, msb.WithStopTimeout(patience)); err != nil {
			return err
		}
		return h.Remove(ctx)
	})
	sameResidue(t, before)
}

// touchLocks makes the lock files of names, which stay after their sandboxes.
func touchLocks(t *testing.T, names []string) {
	t.Helper()
	for _, name := range names {
		lock, err := launch.AcquireLock(homePath("run"), name)
		require.NoError(t, err)
		require.NoError(t, lock.Release())
	}
}

// logOverhead reports the proportional set size of the runtimes without the memory of
// their guests.
func logOverhead(t *testing.T, when string, names []string) {
	t.Helper()
	var guests, others []int
	for _, name := range names {
		pids := runtimes(t, name)
		require.Len(t, pids, 1, name)
		guest, other := proportional(t, pids[0])
		guests, others = append(guests, guest), append(others, other)
	}
	slices.Sort(guests)
	slices.Sort(others)
	middle := len(names) / 2
	t.Logf("%s, KiB of each: guest memory in use %d (%d to %d), PSS beyond it %d (%d to %d)", when,
		guests[middle], guests[0], guests[len(guests)-1], others[middle], others[0], others[len(others)-1])
}

// proportional is the proportional set size of a runtime in KiB: of its guest's memory,
// which alone is kept from children, and of all else.
func proportional(t *testing.T, pid int) (guest, other int) {
	t.Helper()
	smaps, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", pid))
	require.NoError(t, err)
	size := 0
	for line := range bytes.Lines(smaps) {
		key, value, _ := strings.Cut(string(line), ":")
		switch key {
		case "Pss":
			_, err := fmt.Sscan(value, &size)
			require.NoError(t, err)
		case "VmFlags":
			if slices.Contains(strings.Fields(value), "dc") {
				guest += size
			} else {
				other += size
			}
		}
	}
	require.Positive(t, guest)
	require.Positive(t, other)
	return guest, other
}

// TestCycles creates and removes sandboxes one after the other, which leave nothing. The
// unit tests do so many times more with guests that are not real.
func TestCycles(t *testing.T) {
	t.Setenv("MSB_GOMSB_TEMPLATES", "off") // a template that is made meanwhile would stay
	cycles := 1
	if os.Getenv(fullEnv) != "" {
		cycles = 30
	}
	name := newName(t)
	cycle := func(n int) {
		ephemeral := n%2 == 1
		sb := createAs(t, name, msb.WithMemory(64), msb.WithEphemeral(ephemeral))
		require.Equal(t, "there", shell(t, sb, "echo there"))
		if n%3 == 0 {
			require.NoError(t, sb.Kill(within(t, patience)))
		} else {
			require.NoError(t, sb.Stop(within(t, patience)))
		}
		require.NoError(t, sb.Close())
		if !ephemeral {
			require.NoError(t, msb.RemoveSandbox(within(t, patience), name))
		}
		eventually(t, "it is gone", func() bool {
			_, err := msb.GetSandbox(t.Context(), name)
			return msb.IsKind(err, msb.ErrSandboxNotFound)
		})
		gone(t, name)
	}
	cycle(0)
	noTemplateIsMade(t)
	before := residueNow(t)
	for n := range cycles {
		cycle(n)
	}
	sameResidue(t, before)
}
