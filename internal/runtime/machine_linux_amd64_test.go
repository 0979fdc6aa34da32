package runtime

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/kernel"
	"github.com/gomsb/gomsb/vmm"
	"github.com/gomsb/gomsb/vmm/hv/kvmtest"
)

// diskFile is an image of n bytes.
func diskFile(t *testing.T, name string, n int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, make([]byte, n), 0o600))
	return path
}

// The agent's disk comes after the sandbox's own, which the guest knows by position.
func TestAgentDiskIsTheLast(t *testing.T) {
	disks, err := openDisks(MachineConfig{
		CacheDir: t.TempDir(),
		Disks: []Disk{
			{Path: diskFile(t, "a", 4096), Format: "raw", ReadOnly: true, Serial: "vda", Root: true},
			{Path: diskFile(t, "b", 8192), Format: "raw", Serial: "data", Own: true},
		},
		Ephemeral: func() bool { return true },
	})
	require.NoError(t, err)
	require.Len(t, disks, 3)
	require.NotNil(t, disks[1].Volatile)
	assert.True(t, disks[1].Volatile())
	assert.Nil(t, disks[0].Volatile)
	for i, want := range []struct {
		size     uint64
		readOnly bool
		serial   string
	}{{4096, true, "vda"}, {8192, false, "data"}, {0, true, "msb-agent"}} {
		assert.Equal(t, want.readOnly, disks[i].ReadOnly)
		assert.Equal(t, want.readOnly, disks[i].Backend.ReadOnly())
		assert.Equal(t, want.serial, disks[i].Serial)
		if want.size > 0 {
			assert.Equal(t, want.size, disks[i].Backend.Size())
		} else {
			assert.Greater(t, disks[i].Backend.Size(), uint64(1<<20))
		}
		require.NoError(t, disks[i].Backend.Close())
	}
	assert.Equal(t, "root=/dev/vdc rootfstype=erofs ro init=/init", rootWords(len(disks)-1))
}

// openFiles counts this process's descriptors.
func openFiles(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(all)
}

func TestMachineRefuses(t *testing.T) {
	config := func(change func(*MachineConfig)) MachineConfig {
		c := MachineConfig{
			VCPUs: 1, MemoryMiB: 128, CacheDir: t.TempDir(), Console: io.Discard,
			Disks:  []Disk{{Path: diskFile(t, "ok", 4096), Format: "raw", Root: true}},
			Listen: func(uint32, net.Conn) bool { return false }, Logger: slog.New(slog.DiscardHandler),
		}
		change(&c)
		return c
	}
	bad := diskFile(t, "bad", 100)
	for name, c := range map[string]struct {
		change func(*MachineConfig)
		is     error
		stage  launch.Stage // empty: build_vm, which the caller adds
	}{
		"missing kernel": {func(c *MachineConfig) { c.Kernel = "/no/kernel" }, os.ErrNotExist, ""},
		"no kernel":      {func(c *MachineConfig) { c.Kernel = bad }, kernel.ErrTruncated, ""},
		"bad image": {func(c *MachineConfig) {
			c.Disks = append(c.Disks, Disk{Path: bad, Format: "vmdk", ReadOnly: true, Root: true})
		}, nil, launch.StageImage},
		"missing data disk": {func(c *MachineConfig) { c.Disks = append(c.Disks, Disk{Path: "/no/disk", Format: "raw"}) }, nil, launch.StageMount},
		"missing share":     {func(c *MachineConfig) { c.Shares = []Share{{Tag: "ok", Path: "/tmp"}, {Tag: "x", Path: "/no/share"}} }, nil, launch.StageMount},
		"missing root":      {func(c *MachineConfig) { c.Shares = []Share{{Tag: "x", Path: "/no/root", Root: true}} }, nil, launch.StageImage},
		"no attributes":     {func(c *MachineConfig) { c.Shares = []Share{{Tag: "x", Path: "/proc", Stat: "strict"}} }, nil, launch.StageMount},
		"too many shares": {func(c *MachineConfig) {
			for i := range 20 {
				c.Shares = append(c.Shares, Share{Tag: fmt.Sprint(i), Path: "/proc"}) // which is relaxed then
			}
		}, vmm.ErrTooManyDevices, ""},
		"too little memory": {func(c *MachineConfig) { c.MemoryMiB = 1 }, vmm.ErrConfig, ""},
		"too many vCPUs":    {func(c *MachineConfig) { c.VCPUs = 33 }, vmm.ErrConfig, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if errors.Is(c.is, vmm.ErrTooManyDevices) { // which is known when there is a machine
				kvmtest.Need(t)
			}
			cfg := config(c.change)
			before := openFiles(t)
			m, err := newMachine(cfg)
			require.Error(t, err)
			assert.Nil(t, m)
			if c.is != nil {
				assert.ErrorIs(t, err, c.is)
			}
			var boot *launch.BootError
			if errors.As(err, &boot) {
				assert.Equal(t, c.stage, boot.Stage)
			} else {
				assert.Empty(t, c.stage)
			}
			assert.Equal(t, before, openFiles(t))
		})
	}
}

func TestOutcomes(t *testing.T) {
	for kind, want := range map[vmm.Kind]Outcome{
		vmm.PowerOff:    {Orderly: true, Text: "power-off"},
		vmm.Halt:        {Orderly: true, Text: "halt"},
		vmm.Reset:       {Reset: true, Text: "reset"},
		vmm.Stopped:     {Stopped: true, Text: "stopped"},
		vmm.Panic:       {Text: "guest panic"},
		vmm.TripleFault: {Text: "triple fault"},
		vmm.Failed:      {Text: "failed"},
	} {
		assert.Equal(t, want, outcomeOf(vmm.Result{Kind: kind}))
	}
}
