package runtime

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestResident(t *testing.T) {
	r := openResident()
	require.NotNil(t, r)
	before, ok := r.bytes()
	require.True(t, ok)
	const size = 64 << 20
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_POPULATE)
	require.NoError(t, err)
	after, ok := r.bytes()
	require.True(t, ok)
	assert.InDelta(t, size, float64(after)-float64(before), 16<<20)
	require.NoError(t, unix.Munmap(mem))
	assert.Zero(t, testing.AllocsPerRun(100, func() { _, _ = r.bytes() }))
	require.NoError(t, r.close())
	_, ok = r.bytes()
	assert.False(t, ok)
	var none *residentReader
	_, ok = none.bytes()
	assert.False(t, ok)
	assert.NoError(t, none.close())
}

func TestField(t *testing.T) {
	n, rest := field([]byte("123 45\n"))
	assert.Equal(t, uint64(123), n)
	n, rest = field(rest)
	assert.Equal(t, uint64(45), n)
	assert.Empty(t, rest)
	n, rest = field(nil)
	assert.Zero(t, n)
	assert.Nil(t, rest)
}
