package memory_test

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/memory"
)

func TestMapFileIsPrivate(t *testing.T) {
	t.Parallel()
	m := twoRegions(t)
	data := bytes.Repeat([]byte{0xAA}, 2*page)
	data[page] = 0xBB
	f := tempFile(t, data)

	require.NoError(t, m.MapFile(page, f, page, page))
	b, err := m.Slice(page, page)
	require.NoError(t, err)
	assert.Equal(t, byte(0xBB), b[0])
	assert.Equal(t, byte(0xAA), b[1])
	b[0] = 0xCC
	got := make([]byte, 1)
	_, err = f.ReadAt(got, page)
	require.NoError(t, err)
	assert.Equal(t, byte(0xBB), got[0], "a guest's write must not reach the file")
	require.NoError(t, m.ReadAt(got, 2*page))
	assert.Equal(t, byte(0), got[0], "the page behind must not change")
	require.NoError(t, m.ReadAt(got, page-1))
	assert.Equal(t, byte(0), got[0], "the page before must not change")
}

func TestDiscardedFilePagesAreZero(t *testing.T) {
	t.Parallel()
	m := twoRegions(t)
	f := tempFile(t, bytes.Repeat([]byte{0xAA}, 2*page))
	require.NoError(t, m.MapFile(page, f, 0, 2*page))
	require.NoError(t, m.Discard(page, page))
	b, err := m.Slice(page, 2*page)
	require.NoError(t, err)
	assert.Equal(t, make([]byte, page), b[:page], "the file must not come back")
	assert.Equal(t, byte(0xAA), b[page], "the page behind stays")
}

func TestMapFileRefusesPartsOfPages(t *testing.T) {
	t.Parallel()
	m := twoRegions(t)
	f := tempFile(t, make([]byte, 8*page))
	for name, c := range map[string]struct {
		addr   uint64
		off, n int64
	}{
		"address":     {1, 0, page},
		"offset":      {0, 1, page},
		"size":        {0, 0, page + 1},
		"negative":    {0, -page, page},
		"empty":       {0, 0, 0},
		"end of RAM":  {3 * page, 0, 2 * page},
		"not RAM":     {0x80000, 0, page},
		"below zero":  {0, 0, -page},
		"wraps round": {^uint64(page - 1), 0, 2 * page},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.ErrorIs(t, m.MapFile(c.addr, f, c.off, c.n), memory.ErrOutOfRange)
		})
	}
}

// A child must not inherit guest memory, and the pages around it must be inaccessible.
func TestMappingHasGuardsAndIsNotInherited(t *testing.T) {
	m, err := memory.New([]memory.Range{{Base: 0, Size: 37 * page}})
	require.NoError(t, err)
	defer func() { assert.NoError(t, m.Close()) }()
	start, err := strconv.ParseUint(strings.TrimPrefix(fmt.Sprintf("%p", m.Regions()[0].Host), "0x"), 16, 64)
	require.NoError(t, err)
	end := start + 37*page

	smaps, err := os.ReadFile("/proc/self/smaps")
	require.NoError(t, err)
	guards, flags := 0, ""
	inside := false
	for _, line := range strings.Split(string(smaps), "\n") {
		var lo, hi uint64
		var perms string
		if n, _ := fmt.Sscanf(line, "%x-%x %s", &lo, &hi, &perms); n == 3 {
			inside = lo == start && hi == end && perms == "rw-p"
			if perms == "---p" && (hi == start || lo == end) {
				guards++
			}
		} else if inside && strings.HasPrefix(line, "VmFlags:") {
			flags = line + " "
		}
	}
	assert.Equal(t, 2, guards, "an inaccessible page before and after")
	assert.Contains(t, flags, " dc ", "do not copy on fork")
	assert.Contains(t, flags, " nr ", "not reserved against the commit limit")
}

// KVM maps a guest's memory by huge pages only if they lie in the host as in the guest.
func TestHugePagesOfTheHostAreHugePagesOfTheGuest(t *testing.T) {
	t.Parallel()
	const huge = 2 << 20
	m, err := memory.New([]memory.Range{{Base: 0, Size: 3*huge + page}, {Base: 4*huge + 5*page, Size: page}, {Base: 1 << 32, Size: huge}})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, m.Close()) })
	for _, r := range m.Regions() {
		at, err := strconv.ParseUint(strings.TrimPrefix(fmt.Sprintf("%p", r.Host), "0x"), 16, 64)
		require.NoError(t, err)
		assert.Equal(t, r.Base%huge, at%huge, "region at %#x", r.Base)
	}
}

func TestTouched(t *testing.T) { // not in parallel: it counts the mappings of the process
	m, err := memory.New([]memory.Range{{Base: 0, Size: 64 * page}})
	require.NoError(t, err)
	defer func() { assert.NoError(t, m.Close()) }()
	f := tempFile(t, bytes.Repeat([]byte{0xAA}, 32*page))
	require.NoError(t, m.MapFile(page, f, 0, 32*page))
	require.NoError(t, m.Separate())
	read, written, err := m.Touched()
	require.NoError(t, err)
	assert.Empty(t, read)
	assert.Empty(t, written)
	b, err := m.Slice(0, 64*page)
	require.NoError(t, err)
	b[0], b[2*page], b[3*page], b[5*page] = 1, 1, 1, b[6*page]
	require.NoError(t, m.Populate(7*page, page))
	read, written, err = m.Touched()
	require.NoError(t, err)
	assert.Equal(t, []memory.Range{{Base: 2 * page, Size: 2 * page}, {Base: 5 * page, Size: page}, {Base: 7 * page, Size: page}}, written)
	assert.Equal(t, []memory.Range{{Base: 6 * page, Size: page}}, read, "and none of its neighbours")
	assert.Equal(t, byte(0xAA), b[7*page], "a populated page has what the file has")
	assert.ErrorIs(t, m.Populate(1<<40, page), memory.ErrOutOfRange)

	require.NoError(t, m.Join())
	before := mappings(t)
	require.NoError(t, m.Separate())
	assert.Greater(t, mappings(t), before+25)
	require.NoError(t, m.Join())
	assert.Less(t, mappings(t), before+10)
	again, _, err := m.Touched()
	require.NoError(t, err)
	assert.Equal(t, read, again)
	assert.Equal(t, byte(0xAA), b[20*page])
}

// mappings is how many this process has.
func mappings(t *testing.T) int {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	require.NoError(t, err)
	return bytes.Count(maps, []byte("\n"))
}

func TestRebase(t *testing.T) {
	t.Parallel()
	m, err := memory.New([]memory.Range{{Base: 0, Size: 6 * page}})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, m.Close()) })
	first := tempFile(t, bytes.Repeat([]byte{0xAA}, 4*page))
	require.NoError(t, m.MapFile(0, first, 0, 4*page))
	all, err := m.Slice(0, 6*page)
	require.NoError(t, err)
	clear(all[page : 2*page]) // which a file was behind
	all[4*page] = 0xBB        // which none was behind
	want := bytes.Clone(all)
	second := tempFile(t, want)
	views := []memory.View{{Addr: 0, File: second, Size: page}, {Addr: 2 * page, File: second, Offset: 2 * page, Size: 3 * page}}

	within := []memory.Range{{Base: 0, Size: 6 * page}}
	require.NoError(t, m.Rebase(within, views))
	assert.True(t, bytes.Equal(want, all))
	_, written, err := m.Touched()
	require.NoError(t, err)
	assert.Empty(t, written, "all is the file's")
	all[3*page] = 1
	_, written, err = m.Touched()
	require.NoError(t, err)
	assert.Equal(t, []memory.Range{{Base: 3 * page, Size: page}}, written)
	got := make([]byte, 1)
	_, err = second.ReadAt(got, 3*page)
	require.NoError(t, err)
	assert.Equal(t, byte(0xAA), got[0], "a guest's write must not reach the file")
	require.NoError(t, m.Discard(2*page, page))
	assert.Equal(t, make([]byte, page), all[2*page:3*page], "the file must not come back")

	want = bytes.Clone(all)
	require.Error(t, m.Rebase(within, []memory.View{{Addr: 0, File: second, Size: page}, {Addr: page, File: second, Offset: 1, Size: page}}))
	assert.Equal(t, want[0], all[0])
	assert.True(t, bytes.Equal(want[page:], all[page:]), "after an error all holds what it did")
	require.NoError(t, m.Discard(0, page))
	assert.Equal(t, make([]byte, page), all[:page], "the file must not come back")
}
