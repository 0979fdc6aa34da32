package runtime

import (
	"database/sql"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

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
			var byUs []*os.File
			if byController {
				uses, err := h.config.DiskUses()
				require.NoError(t, err)
				files, err := launch.LockDisks(uses)
				require.NoError(t, err)
				h.options = func(o *launch.Options) { o.Inherit = files }
				byUs = files
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

			// The rows cannot be written yet, and the process is there until they are.
			db, err := sql.Open("sqlite", h.config.DBPath)
			require.NoError(t, err)
			defer func() { _ = db.Close() }()
			tx, err := db.Conn(t.Context())
			require.NoError(t, err)
			_, err = tx.ExecContext(t.Context(), "PRAGMA busy_timeout = 20000; BEGIN IMMEDIATE")
			require.NoError(t, err)
			launch.UnlockDisks(byUs)
			require.NoError(t, p.Signal(syscall.SIGTERM))
			require.Eventually(t, func() bool {
				free, err := launch.LockDisk(upper, false)
				if err == nil {
					launch.UnlockDisks([]*os.File{free})
				}
				return err == nil
			}, 20*time.Second, time.Millisecond)
			select {
			case <-p.Exited():
				assert.Fail(t, "the process has ended: this proves nothing")
			default:
			}
			_, err = tx.ExecContext(t.Context(), "ROLLBACK")
			require.NoError(t, err)
			assert.Zero(t, p.code())
		})
	}
}
