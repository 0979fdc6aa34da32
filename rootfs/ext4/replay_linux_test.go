package ext4

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestReplayEqualsE2fsck lets debugfs write transactions and compares what e2fsck and
// this package make of them.
func TestReplayEqualsE2fsck(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		blockSize int
		make      []string // arguments of mke2fs, none for Create
		open      string   // how debugfs opens the journal
	}{
		"ours":                  {4096, nil, "jo -c"},
		"no checksums":          {4096, []string{"-b", "4096"}, "jo"},
		"checksums v2":          {4096, []string{"-b", "4096"}, "jo -c -v 2"},
		"checksums v3":          {4096, []string{"-b", "4096"}, "jo -c -v 3"},
		"32-bit":                {4096, []string{"-b", "4096", "-O", "^64bit"}, "jo"},
		"32-bit, checksums v2":  {4096, []string{"-b", "4096", "-O", "^64bit"}, "jo -c -v 2"},
		"1k blocks":             {1024, []string{"-b", "1024"}, "jo -c"},
		"2k, fragmented groups": {2048, []string{"-b", "2048", "-g", "4096"}, "jo -c"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path, oracle := filepath.Join(dir, "image"), filepath.Join(dir, "oracle")
			if tc.make == nil {
				require.NoError(t, Create(path, Options{Size: 64 << 20, UUID: testUUID}))
			} else {
				run(t, "mke2fs", append(append([]string{"-q", "-t", "ext4"}, tc.make...), path, "64M")...)
			}
			script, targets := transactions(t, dir, tc.blockSize)
			require.NoError(t, os.WriteFile(filepath.Join(dir, "script"), []byte(tc.open+"\n"+script+"jc\n"), 0o600))
			run(t, "debugfs", "-w", "-f", filepath.Join(dir, "script"), path)
			assert.Contains(t, field(t, path, "Filesystem features"), "needs_recovery")

			raw, err := os.ReadFile(path)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(oracle, raw, 0o600))
			out, _ := tool(t, "e2fsck", "-fy", "-E", "journal_only", oracle)
			require.NotContains(t, field(t, oracle, "Filesystem features"), "needs_recovery", out)

			require.NoError(t, Grow(path, 80<<20))
			clean(t, path)
			got, err := os.Open(path)
			require.NoError(t, err)
			defer got.Close()
			want, err := os.Open(oracle)
			require.NoError(t, err)
			defer want.Close()
			changed := 0
			for target := range targets {
				a, b := make([]byte, tc.blockSize), make([]byte, tc.blockSize)
				_, err := want.ReadAt(a, int64(target*tc.blockSize))
				require.NoError(t, err)
				_, err = got.ReadAt(b, int64(target*tc.blockSize))
				require.NoError(t, err)
				assert.True(t, bytes.Equal(a, b), "block %d", target)
				if !isHole(a) {
					changed++
				}
			}
			assert.Greater(t, changed, len(targets)/2)
			assert.Less(t, changed, len(targets))
		})
	}
}

// transactions returns commands that write some into a journal, and which blocks these
// change: with new content time and again, with blocks that look like the journal's
// own, and with revocations.
func transactions(t *testing.T, dir string, blockSize int) (script string, targets map[int]bool) {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	targets = map[int]bool{}
	var b strings.Builder
	for i := range 30 {
		var list []string
		content := []byte{}
		for range 1 + random.IntN(40) {
			target := 50<<20/blockSize + random.IntN(300) // free in the images of this test
			if strings.Contains(strings.Join(list, ","), fmt.Sprint(target)) {
				continue
			}
			targets[target] = true
			list = append(list, fmt.Sprint(target))
			block := bytes.Repeat([]byte{byte(i + 1), byte(target)}, blockSize/2)
			if random.IntN(4) == 0 {
				be.PutUint32(block, journalMagic)
			}
			content = append(content, block...)
		}
		data := filepath.Join(dir, fmt.Sprint("data", i))
		require.NoError(t, os.WriteFile(data, content, 0o600))
		fmt.Fprintf(&b, "jw -b %s %s\n", strings.Join(list, ","), data)
		if i%5 == 4 {
			fmt.Fprintf(&b, "jw -r %s\n", strings.Join(list[:len(list)/2+1], ","))
		}
	}
	return b.String(), targets
}
