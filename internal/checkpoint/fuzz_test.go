package checkpoint

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func FuzzManifest(f *testing.F) {
	m := Manifest{
		Source: "box", VCPUs: 1, MaxVCPUs: 1, MemoryMiB: 64, MaxMemoryMiB: 64, Net: &Net{MAC: MAC{2}},
		ReadOnly: []bool{false}, Disks: []Disk{{File: "disks/0", Format: "raw", Size: 1, Sum: 7}},
	}
	good, err := m.encode()
	require.NoError(f, err)
	f.Add(good)
	f.Add([]byte(`{"version":2}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decode(b)
		if err != nil {
			assert.True(t, errors.Is(err, ErrDamaged) || errors.Is(err, ErrVersion), err)
			return
		}
		again, err := m.encode()
		require.NoError(t, err)
		same, err := decode(again)
		require.NoError(t, err)
		assert.Equal(t, m, same)
	})
}
