package kernel

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestOpenReadsPrivately(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "vmlinux")
	data := testVmlinux()
	require.NoError(t, os.WriteFile(path, data, 0o644))
	img, err := Open(path)
	require.NoError(t, err)
	// A file that shrinks or changes must not take the machine down with it.
	require.NoError(t, os.Truncate(path, 0))
	assert.Equal(t, data[0x1000:0x2000], img.Segments[0].Data)
	assert.Equal(t, int64(-1), img.Segments[0].Offset)
	assert.Nil(t, img.File())
	assert.Equal(t, StockCommandLine, img.CommandLine(ProfileSoft))
	require.NoError(t, img.Close())
}

func TestOpenRefusesOddFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	require.NoError(t, os.WriteFile(at("empty"), nil, 0o600))
	require.NoError(t, os.WriteFile(at("text"), []byte(strings.Repeat("text", 1000)), 0o600))
	require.NoError(t, syscall.Mkfifo(at("fifo"), 0o600))
	require.NoError(t, os.WriteFile(at("huge"), nil, 0o600))
	require.NoError(t, os.Truncate(at("huge"), MaxFileSize+1)) // sparse
	for path, want := range map[string]error{
		at("missing"): fs.ErrNotExist,
		at("empty"):   ErrTruncated,
		at("text"):    ErrFormat,
		at("fifo"):    ErrFormat,
		at("huge"):    ErrTooLarge,
		dir:           ErrFormat,
		"/dev/zero":   ErrFormat,
	} {
		img, err := Open(path)
		require.ErrorIs(t, err, want, path)
		assert.Contains(t, err.Error(), path)
		assert.Nil(t, img)
	}
}

// Kernels built by others: two libkrunfw releases and Debian's own.
func TestOpenOfficialKernels(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("../hack/kernel/official.sh")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	require.NoError(t, err)
	paths := map[string]string{}
	for line := range strings.Lines(string(out)) {
		name, path, _ := strings.Cut(strings.TrimSpace(line), " ")
		paths[name] = path
	}
	for name, c := range map[string]struct {
		format Format
		entry  uint64
		size   int // bytes of the first segment, 0 if it varies
		initrd bool
		says   string
	}{
		"5.6.1":  {FormatLibkrunfw, 0x1000123, 0x1490000, true, "Linux version 6.12.99 "},
		"5.2.1":  {FormatLibkrunfw, 0x1000123, 0x1450000, false, "Linux version 6.12.68 "},
		"debian": {FormatBzImage, 0x1000200, 0, true, "HdrS"},
	} {
		t.Run(name, func(t *testing.T) {
			img, err := Open(paths[name])
			require.NoError(t, err)
			assert.Equal(t, c.format, img.Format)
			assert.Equal(t, c.entry, img.Entry)
			assert.Equal(t, c.initrd, img.Initrd)
			require.Len(t, img.Segments, 1)
			assert.Equal(t, uint64(0x1000000), img.Segments[0].Addr)
			if c.size > 0 {
				assert.Len(t, img.Segments[0].Data, c.size)
				assert.Contains(t, string(img.Segments[0].Data), c.says)
			} else {
				assert.Contains(t, string(img.SetupHeader), c.says)
				assert.Greater(t, img.Segments[0].MemSize, uint64(len(img.Segments[0].Data)))
			}
			require.NoError(t, img.Close())
		})
	}
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	assert.Equal(t, DefaultCommandLine, CommandLine(""))
	assert.Equal(t, DefaultCommandLine, CommandLine(ProfileDefault))
	assert.Equal(t, SoftCommandLine, CommandLine(ProfileSoft))
	for _, line := range []string{StockCommandLine, DefaultCommandLine, SoftCommandLine} {
		seen := map[string]bool{}
		for _, word := range strings.Fields(line) {
			assert.False(t, seen[word], "%s twice", word)
			seen[word] = true
		}
		for _, word := range []string{"console=hvc0", "panic=-1", "reboot=k"} {
			assert.True(t, seen[word], "%s in %s", word, line)
		}
		assert.Equal(t, line, strings.Join(strings.Fields(line), " "))
		assert.Less(t, len(line), StockMaxCommandLine/2)
	}
	assert.NotContains(t, DefaultCommandLine, "zeromem", "a promise only the soft profile makes")
	assert.Contains(t, DefaultCommandLine, " pvpanic=0x505 renew=0x508 ")
	assert.NotContains(t, StockCommandLine, "renew=", "kernels that do not know it make an environment variable of it")
}
