package vmm

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/vmm/hv"
	"github.com/gomsb/gomsb/vmm/hv/kvmtest"
	"github.com/gomsb/gomsb/vmm/memory"
)

// TestTooMuchMemory: the error says what to do, and nothing is left behind.
func TestTooMuchMemory(t *testing.T) {
	narrow := []hv.CPUIDEntry{{Function: 0x80000008, EAX: 32}}
	assert.EqualError(t, (&Machine{}).mapMemory(4096, nil, narrow),
		"invalid machine configuration: memory: 4096 MiB are more than this host's processor addresses: choose at most 3328")

	kvmtest.Need(t)
	b, err := os.ReadFile("/proc/self/statm")
	require.NoError(t, err)
	pages, err := strconv.ParseUint(strings.Fields(string(b))[0], 10, 64)
	require.NoError(t, err)
	var old unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_AS, &old))
	limit := old
	limit.Cur = min(pages*memory.PageSize+4<<30, old.Max) // this process itself still grows
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_AS, &limit))
	defer func() { require.NoError(t, unix.Setrlimit(unix.RLIMIT_AS, &old)) }()

	before := descriptors(t)
	c := config(spins, 1)
	c.MemoryMiB = 32 << 10
	_, err = New(c)
	require.ErrorIs(t, err, ErrMemory)
	assert.ErrorIs(t, err, ErrConfig)
	assert.ErrorIs(t, err, unix.ENOMEM)
	assert.ErrorContains(t, err, "the host refuses 32768 MiB: choose less, or raise its limits on address space (ulimit -v)")
	assert.Equal(t, before, descriptors(t))
	c.MemoryMiB, c.MaxMemoryMiB = 64, 32<<10
	_, err = New(c)
	require.ErrorIs(t, err, ErrMemory)
	assert.ErrorContains(t, err, "the host refuses 64 MiB and room for 32704 more: choose less")
	assert.Equal(t, before, descriptors(t))
}
