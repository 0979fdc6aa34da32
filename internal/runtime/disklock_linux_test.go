package runtime

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/internal/launch"
)

// A runtime locks the disks that its controller did not lock, and runs on the locks of
// one that did.
func TestDisksAreLocked(t *testing.T) {
	t.Parallel()
	for name, byController := range map[string]bool{"by the controller": true, "by the runtime": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHome(t)
			upper, data := filepath.Join(h.dir, "upper.ext4"), filepath.Join(h.dir, "data.raw")
			for _, path := range []string{upper, data} {
				require.NoError(t, os.WriteFile(path, make([]byte, 4096), 0o600))
			}
			h.config.Rootfs.DiskReadOnly, h.config.Rootfs.Upper = true, &upper
			h.config.Disks = []string{"data:" + data + ":raw"}
			if byController {
				uses, err := h.config.DiskUses()
				require.NoError(t, err)
				files, err := launch.LockDisks(uses)
				require.NoError(t, err)
				h.options = func(o *launch.Options) { o.Inherit = files }
				defer launch.UnlockDisks(files)
			}
			p := h.spawn(fakePlan{})
			p.dial()
			for _, path := range []string{upper, data} {
				_, err := launch.LockDisk(path, true)
				var busy *launch.DiskBusyError
				require.ErrorAs(t, err, &busy, path)
				assert.Contains(t, busy.Holders, launch.DiskHolder{PID: p.PID(), Sandbox: sandboxName})
			}
			_, err := launch.LockDisk(*h.config.Rootfs.Disk, false)
			require.ErrorIs(t, err, launch.ErrDiskBusy)
			shared, err := launch.LockDisk(*h.config.Rootfs.Disk, true)
			require.NoError(t, err, "readers share")
			launch.UnlockDisks([]*os.File{shared})
		})
	}
}
