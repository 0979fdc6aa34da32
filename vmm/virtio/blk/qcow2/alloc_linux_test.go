package qcow2

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What a guest's requests do all the time allocates nothing: reads and writes of clusters
// that are there, new clusters, and what gives them up.
func TestNothingAllocates(t *testing.T) {
	const cluster, size = 64 << 10, 1 << 30
	m := openTest(t, create(t, "cluster_size=64k", size), false)
	defer m.Close()
	page := [][]byte{random(rand.New(rand.NewPCG(1, 2)), 4096)}
	long := make([][]byte, 32)
	for i := range long {
		long[i] = page[0]
	}
	next := uint64(0)
	fresh := func() uint64 { // a cluster that nobody has written
		next += cluster
		return size/2 + next
	}
	for off := uint64(0); off < 16*cluster; off += 4096 {
		require.NoError(t, m.WriteV(off, page))
	}
	for name, f := range map[string]func() error{
		"short read":   func() error { return m.ReadV(8192, page) },
		"long read":    func() error { return m.ReadV(cluster-4096, long) },
		"hole":         func() error { return m.ReadV(size/4, long) },
		"short write":  func() error { return m.WriteV(8192, page) },
		"long write":   func() error { return m.WriteV(cluster-4096, long) },
		"new cluster":  func() error { return m.WriteV(fresh(), page) },
		"flush":        m.Flush,
		"write, flush": func() error { return errorOf(m.WriteV(fresh(), page), m.Flush()) },
		"zeroes":       func() error { return m.WriteZeroes(2*cluster, 4096, true) },
	} {
		for range 20 {
			require.NoError(t, f(), name) // tables come into memory
		}
		var failed error
		allocs := testing.AllocsPerRun(200, func() {
			if err := f(); err != nil {
				failed = err
			}
		})
		require.NoError(t, failed, name)
		assert.Less(t, allocs, 0.1, name)
	}
}

func errorOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
