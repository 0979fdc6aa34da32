package checkpoint

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/snapshot/format"
)

// mutations is how often TestMutatedDirectories changes something.
func mutations() int {
	if os.Getenv("E2E_FULL") != "" {
		return 10_000
	}
	return 1500
}

// content is all that a checkpoint gives to a machine.
type content struct {
	manifest      *Manifest
	header        format.Header
	state, memory []byte
}

// read opens everything in a checkpoint.
func read(ctx context.Context, dir string) (c content, err error) {
	if c.manifest, err = Open(dir); err != nil {
		return c, err
	}
	if err = c.manifest.Verify(ctx, dir); err != nil {
		return c, err
	}
	m, err := format.Open(ctx, MachineDir(dir))
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	c.header, c.state = m.Header(), m.State()
	for _, p := range m.Pieces(format.Range{Length: c.header.MemorySize()}) {
		b, err := io.ReadAll(io.NewSectionReader(p.File, p.Offset, p.Length))
		if err != nil {
			return c, err
		}
		c.memory = append(c.memory, b...)
	}
	return c, nil
}

// savedMachine makes a checkpoint with a disk and a machine.
func savedMachine(t *testing.T, dir string) {
	t.Helper()
	d, err := Create(dir, format.Lasting)
	require.NoError(t, err)
	require.NoError(t, d.CopyDisk(t.Context(), Disk{Index: 1, Format: "raw", Own: true}, diskFile(t, "upper", 40_000, map[int64]string{4096: "first", 30_000: "second"})))
	h := format.Header{Kind: format.Full, VCPUs: 1, MaxVCPUs: 1, Regions: []format.Region{{Address: 1 << 20, Size: 4 * format.PageSize}}, Devices: []string{"net"}}
	memory := make([]byte, 4*format.PageSize)
	copy(memory[format.PageSize+7:], "what a guest has in its memory")
	machine, err := format.Capture(t.Context(), d.MachineDir(), format.Lasting, h, []byte("the state of its processor"), format.Slices{memory})
	require.NoError(t, err)
	require.NoError(t, machine.Publish(t.Context()))
	m := manifest()
	m.ReadOnly = []bool{true, false}
	require.NoError(t, d.Publish(t.Context(), m))
}

// mutate returns a changed copy of a file's content.
func mutate(random *rand.Rand, b []byte) []byte {
	b = slices.Clone(b)
	at := random.IntN(len(b))
	switch random.IntN(8) {
	case 0:
		return b[:at]
	case 1:
		return append(b, byte(random.Uint32()))
	case 2:
		return slices.Insert(b, at, byte(random.Uint32()))
	case 3:
		return slices.Delete(b, at, at+1)
	case 4:
		clear(b[at:min(len(b), at+random.IntN(64))])
	case 5:
		copy(b[at:], b[random.IntN(len(b)):])
	default:
		b[at] ^= 1 << random.IntN(8)
	}
	return b
}

// strange puts something else in the place of a file.
func strange(random *rand.Rand, path string) error {
	if err := os.Remove(path); err != nil {
		return err
	}
	switch random.IntN(5) {
	case 0:
		return nil
	case 1:
		return os.Mkdir(path, 0o700)
	case 2:
		return unix.Mkfifo(path, 0o600)
	case 3:
		return os.Symlink("/dev/zero", path)
	}
	return os.Symlink(filepath.Base(path), path) // to itself
}

// Whatever is changed in any file of a checkpoint is noticed, or makes no difference.
func TestMutatedDirectories(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "one")
	savedMachine(t, dir)
	want, err := read(t.Context(), dir)
	require.NoError(t, err)
	files := []string{manifestName, "disks/1", "machine/machine", "machine/memory", "machine/seal"}
	original := make(map[string][]byte)
	for _, name := range files {
		original[name], err = os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	noticed := 0
	for range mutations() {
		name := files[random.IntN(len(files))]
		path := filepath.Join(dir, name)
		odd := random.IntN(20) == 0
		if odd {
			require.NoError(t, strange(random, path))
		} else {
			require.NoError(t, os.WriteFile(path, mutate(random, original[name]), 0o600))
		}
		got, err := read(t.Context(), dir)
		if err == nil {
			if name == "disks/1" || name == "machine/memory" {
				now, err := os.ReadFile(path)
				require.NoError(t, err)
				require.True(t, bytes.Equal(original[name], now), "every bit of %s counts", name)
			}
			require.Equal(t, want, got, name)
		} else {
			noticed++
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrVersion) && !odd {
				t.Fatalf("%s: %v", name, err)
			}
		}
		if odd {
			require.NoError(t, os.RemoveAll(path))
		}
		require.NoError(t, os.WriteFile(path, original[name], 0o600))
	}
	assert.Greater(t, noticed, mutations()/2)
}
