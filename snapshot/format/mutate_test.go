package format

import (
	"crypto/sha256"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// mutations is how many damaged checkpoints TestMutations opens.
const mutations = 10_000

// mutate returns b with one or a few things wrong with it, or, seldom, as it was.
func mutate(r *rand.Rand, b []byte) []byte {
	b = append([]byte(nil), b...)
	for range 1 + r.IntN(3) {
		if len(b) == 0 {
			return b
		}
		at := r.IntN(len(b))
		n := 1 + r.IntN(min(len(b)-at, 1<<r.IntN(20)))
		switch r.IntN(8) {
		case 0, 1, 2:
			b[at] ^= 1 << r.IntN(8)
		case 3:
			b = b[:at]
		case 4: // one part over another
			copy(b[at:at+n], b[r.IntN(len(b)):])
		case 5: // a part is gone
			b = append(b[:at], b[at+n:]...)
		case 6: // a part comes twice
			b = slices.Insert(b, at, slices.Clone(b[at:at+n])...)
		case 7:
			clear(b[at : at+n])
		}
	}
	return b
}

// resum makes the checksum at the end right.
func resum(b []byte) []byte {
	if len(b) < sha256.Size {
		return b
	}
	b = b[:len(b)-sha256.Size]
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

// overwrite is os.WriteFile that does not make the file empty first: file systems begin
// to write back what came after that.
func overwrite(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Truncate(int64(len(b))), f.Close())
}

func TestMutations(t *testing.T) {
	t.Parallel()
	lasting := func(t *testing.T, dir string, h Header) {
		require.NoError(t, Write(t.Context(), dir, h, []byte("what the registers hold"), guest(h)))
	}
	testMutations(t, mutations*6/10, lasting, 32<<10, 8<<10)
	testMutations(t, mutations/10, lasting, chunkSize, 96<<10)
	testMutations(t, mutations*3/10, func(t *testing.T, dir string, h Header) {
		lasting(t, dir+"base", h)
		base := open(t, dir+"base")
		d, err := Capture(t.Context(), dir, Passing, h, []byte("what the registers hold"), Based{guest(h), base})
		require.NoError(t, err)
		require.NotNil(t, d.under)
		require.NoError(t, d.Publish(t.Context()))
	}, 32<<10, 8<<10)
}

func testMutations(t *testing.T, n int, write func(t *testing.T, dir string, h Header), sizes ...uint64) {
	h := header(sizes...)
	dir := filepath.Join(t.TempDir(), "one")
	write(t, dir, h)
	require.NoError(t, RecordPrefetch(dir, Prefetch{[]Range{{0, PageSize}}, []Range{{0, PageSize}}}))
	intact := map[string][]byte{}
	for _, name := range []string{machineName, memoryName, sealName, prefetchName} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		intact[name] = b
	}
	want, state, mem := content(t, open(t, dir))

	r := rand.New(rand.NewPCG(3, 4))
	names := []string{machineName, machineName, memoryName, memoryName, sealName, prefetchName}
	opened := 0
	for range n {
		name := names[r.IntN(len(names))]
		file := filepath.Join(dir, name)
		require.NoError(t, overwrite(file, mutate(r, intact[name])))
		c, err := Open(t.Context(), dir)
		if err == nil {
			opened++
			gotHeader, gotState, gotMem := content(t, c)
			require.Equal(t, want, gotHeader)
			require.Equal(t, state, gotState)
			require.True(t, assert.ObjectsAreEqual(mem, gotMem), "memory differs")
			c.Prefetch()
			require.NoError(t, c.Close())
		} else {
			require.True(t, isRefusal(err), "%v", err)
		}
		require.NoError(t, overwrite(file, intact[name]))
		if m, err := decode(intact[machineName]); name == memoryName && err == nil && m.layer != nil { // nobody could tell it from a damaged one
			f, err := os.Open(file)
			require.NoError(t, err)
			s, err := stateOf(f)
			require.NoError(t, errors.Join(err, f.Close()))
			intact[sealName] = seal(s, m.digest)
			require.NoError(t, overwrite(filepath.Join(dir, sealName), intact[sealName]))
		}
	}
	assert.Greater(t, opened, n/8, "a damaged seal or list does no harm")
	assert.Less(t, opened, n*2/3)
}
