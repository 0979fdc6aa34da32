package launch

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// FuzzParse takes arguments joined with newlines.
func FuzzParse(f *testing.F) {
	f.Add("--name\na\n--sandbox-id\n1\n--vcpus\n1\n--memory-mib\n512\n--config-fd\n96")
	f.Add("--debug\n--name=a\n--sandbox-id=7\n--startup-fd=98\n--vcpus=2\n--memory-mib=1\n--max-vcpus=4\n--config-file=/c\n--lifecycle-lock-fd=99")
	f.Add("--name\na\n--sandbox-id\n1\n--db-path\n/h/db/msb.db\n--log-dir\n/l\n--runtime-dir\n/s/a/runtime\n--agent-sock\n/h/run/agent/s.sock\n--disk\nd:/d:raw\n--env\nMSB_TMPFS=/tmp:size=1,mode=700\n--env\nMSB_RLIMITS=nofile=1:2\n--network-config\n{}\n--\nx")
	f.Fuzz(func(t *testing.T, text string) {
		inv, err := Parse(strings.Split(text, "\n"))
		if err != nil {
			assert.ErrorIs(t, err, ErrUsage)
			return
		}
		require.NoError(t, inv.Validate())
		if inv.Config != nil { // 0.5.7: it says the same in the dialect of 0.6.18
			document, err := inv.Config.Encode()
			require.NoError(t, err)
			_, err = Decode(document)
			require.NoError(t, err)
			return
		}
		// What it writes is read the same again, but for room to grow that is none.
		if inv.MaxVCPUs <= inv.VCPUs {
			inv.MaxVCPUs = 0
		}
		if inv.MaxMemoryMiB <= inv.MemoryMiB {
			inv.MaxMemoryMiB = 0
		}
		again, err := Parse(inv.Args()[1:])
		require.NoError(t, err)
		assert.Equal(t, inv, again)
	})
}

func FuzzParseMount(f *testing.F) {
	f.Add("tag:/host/path:ro,noexec,nosuid,nodev,stat-virt=off,host-perms=mirror,follow-root-symlinks,quota=16,uid=0,gid=1")
	f.Add("t:/h:rw")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := ParseMount(text)
		if err != nil {
			assert.ErrorIs(t, err, ErrMount)
			return
		}
		again, err := ParseMount(m.String())
		require.NoError(t, err)
		assert.Equal(t, m, again)
	})
}

func FuzzParseDisk(f *testing.F) {
	f.Add("data_bd47413b:/home/u/disk.raw:raw:ro")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := ParseDisk(text)
		if err != nil {
			assert.ErrorIs(t, err, ErrMount)
			return
		}
		assert.Equal(t, text, d.String())
	})
}

// FuzzBootError reads whatever a runtime may have left.
func FuzzBootError(f *testing.F) {
	f.Add([]byte(`{"t":"2026-04-30T20:32:59.688Z","stage":"image","errno":2,"message":"m","kernel_log":["panic"]}`))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text []byte) {
		e, err := parseBootError(text)
		if err != nil {
			return
		}
		if e.Time.UTC().Year() > 9999 || e.Time.UTC().Year() < 0 {
			return // RFC 3339 has no way to write it in UTC
		}
		require.NoError(t, e.Write(dir))
		again, err := ReadBootError(dir)
		require.NoError(t, err)
		assert.Equal(t, e.Stage, again.Stage)
	})
}
