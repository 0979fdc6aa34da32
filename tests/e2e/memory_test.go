//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	msb "github.com/gomsb/gomsb/sdk"
)

// memoryTotal is what the guest's kernel has for use, in MiB: some less than it was given.
func memoryTotal(t *testing.T, sb *msb.Sandbox) int {
	t.Helper()
	kib, err := strconv.Atoi(shell(t, sb, `awk '/^MemTotal:/ { print $2 }' /proc/meminfo`))
	require.NoError(t, err)
	return kib / 1024
}

// modifyMemory changes the memory of a running sandbox and waits until it has it.
func modifyMemory(t *testing.T, sb *msb.Sandbox, mib uint32) {
	t.Helper()
	p, err := sb.Modify(within(t, 2*patience), msb.ModifyOptions{MemoryMiB: mib})
	require.NoError(t, err)
	require.True(t, p.Applied)
	require.Len(t, p.Changes, 1)
	assert.Equal(t, "live", p.Changes[0].Disposition)
	require.Len(t, p.ResizeStatus, 1)
	assert.Equal(t, fmt.Sprint(mib, " MiB"), p.ResizeStatus[0].Requested)
	eventually(t, "the guest has the memory", func() bool { n := memoryTotal(t, sb); return n > int(mib)-64 && n <= int(mib) })
}

// TestModifyMemory gives a running guest more memory, which a program uses, and takes it
// again; the host has it back then.
func TestModifyMemory(t *testing.T) {
	sb := create(t, msb.WithMemory(256), msb.WithMaxMemory(1024), msb.WithMaxCPUs(2))
	metrics := func() *msb.Metrics {
		m, err := sb.Metrics(within(t, patience))
		require.NoError(t, err)
		return m
	}
	assert.Less(t, memoryTotal(t, sb), 256)
	assert.EqualValues(t, 256<<20, metrics().MemoryLimitBytes)
	modifyMemory(t, sb, 512)
	eventually(t, "the limit in the metrics", func() bool { return metrics().MemoryLimitBytes == 512<<20 })
	shell(t, sb, "mkdir /big && mount -t tmpfs -o size=400m none /big && dd if=/dev/zero of=/big/file bs=1M count=280 && test $(stat -c %s /big/file) = 293601280")
	eventually(t, "what the program uses shows", func() bool {
		m := metrics()
		return m.MemoryBytes > 280<<20 && m.MemoryHostResidentBytes != nil && *m.MemoryHostResidentBytes > 280<<20
	})
	shell(t, sb, "rm /big/file")
	modifyMemory(t, sb, 256)
	eventually(t, "the host has it back", func() bool {
		m := metrics()
		return *m.MemoryHostResidentBytes < 250<<20 && m.MemoryLimitBytes == 256<<20
	})

	for _, mib := range []string{"128M", "2G"} {
		r := cli(t, "modify", sb.Name(), "--memory", mib)
		assert.Equal(t, 1, r.code)
		assert.Contains(t, r.stdout, "requires restart")
	}
	r := cli(t, "modify", sb.Name(), "--memory", "512M", "--dry-run")
	assert.Zero(t, r.code)
	assert.Equal(t, []string{"memory", "updated", "256", "MiB", "512", "MiB", "live"}, strings.Fields(strings.Split(r.stdout, "\n")[1]))
	assert.Less(t, memoryTotal(t, sb), 256)
	r = cli(t, "modify", sb.Name(), "--memory", "1G", "--cpus", "2")
	assert.Zero(t, r.code, r.stderr)
	eventually(t, "both, by the command", func() bool { return memoryTotal(t, sb) > 960 && shell(t, sb, "nproc") == "2" })
	assert.Contains(t, cli(t, "ps", sb.Name(), "--format", "json").stdout, `"memory_mib": 1024`)
}

// TestModifyMemoryOfOfficialKernels: the bundle of 0.6.18 has a driver, that of 0.5.7 none.
func TestModifyMemoryOfOfficialKernels(t *testing.T) {
	list, err := os.ReadFile(data("kernels"))
	require.NoError(t, err)
	for line := range strings.Lines(string(list)) {
		name, path, ok := strings.Cut(strings.TrimSpace(line), " ")
		require.True(t, ok, line)
		t.Run(name, func(t *testing.T) {
			t.Setenv("MSB_KERNEL", path)
			sb := create(t, msb.WithMemory(256), msb.WithMaxMemory(512))
			if name != "5.2.1" {
				modifyMemory(t, sb, 384)
				return
			}
			p, err := sb.Modify(within(t, patience), msb.ModifyOptions{MemoryMiB: 384})
			require.True(t, msb.IsKind(err, msb.ErrUnsupportedOperation), "%v", err)
			assert.Equal(t, "requires restart", p.Changes[0].Disposition)
			assert.Equal(t, "the running sandbox cannot be resized", *p.Changes[0].Reason)
			assert.Less(t, memoryTotal(t, sb), 256)
		})
	}
}

// TestOfficialCommandModifies a running sandbox of ours.
func TestOfficialCommandModifies(t *testing.T) {
	official, err := os.ReadFile(data("official"))
	require.NoError(t, err)
	sb := create(t, msb.WithMemory(256), msb.WithMaxMemory(512), msb.WithMaxCPUs(2))
	at := elsewhere{program: string(official), runtime: os.Getenv("MSB_PATH"), home: os.Getenv("MSB_HOME")}
	modify := func(args ...string) (plan msb.SandboxModificationPlan) {
		t.Helper()
		out := at.run(t, append([]string{"modify", sb.Name(), "--format", "json"}, args...)...)
		require.NoError(t, json.Unmarshal([]byte(out), &plan), out)
		assert.True(t, plan.Applied)
		return plan
	}
	p := modify("--cpus", "2", "--memory", "512M")
	require.Len(t, p.ResizeStatus, 2)
	assert.Equal(t, "2 of 2", p.ResizeStatus[0].Enforced+" of "+p.ResizeStatus[0].Requested)
	assert.Equal(t, "512 MiB of 512 MiB", p.ResizeStatus[1].Enforced+" of "+p.ResizeStatus[1].Requested)
	eventually(t, "the guest has both", func() bool { return memoryTotal(t, sb) > 450 && shell(t, sb, "nproc") == "2" })
	p = modify("--memory", "128M")
	require.Len(t, p.ResizeStatus, 1)
	assert.Equal(t, "256 MiB of 128 MiB", p.ResizeStatus[0].Enforced+" of "+p.ResizeStatus[0].Requested, "it keeps what it started with")
	eventually(t, "it goes back to that", func() bool { return memoryTotal(t, sb) < 256 })
}
