package ext4

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const logged = 10_000 // a free block of the images here

// crashed is an image with transactions in its journal.
type crashed struct {
	*memory
	j        *journal
	at       uint32 // next free block of the log
	sequence uint32
	commits  []uint32 // where the commit blocks are
}

// crash returns an image whose log begins at block start of the journal.
func crash(t testing.TB, start uint32) *crashed {
	t.Helper()
	m := formatted(t, Options{Size: MinSize * 8})
	m.limit = 1 << 40
	v, err := openVolume(m)
	require.NoError(t, err)
	j, err := openJournal(v)
	require.NoError(t, err)
	require.NoError(t, j.mark(start, 7))
	v.super.put32(sbIncompat, v.super.u32(sbIncompat)|incompatRecover)
	require.NoError(t, v.writeSuper())
	return &crashed{memory: m, j: j, at: start, sequence: 7}
}

func (c *crashed) next() uint32 {
	at := c.at
	c.at = c.j.after(at)
	return at
}

// transaction logs one block filled with fill, and revokes another if that is not 0.
func (c *crashed) transaction(t testing.TB, target uint64, fill byte, revoked uint64) {
	t.Helper()
	head := make([]byte, BlockSize)
	journalHead(head, journalDescriptor, c.sequence)
	data := bytes.Repeat([]byte{fill}, BlockSize)
	u := update{target: target, sum: c.j.blockSum(data, c.sequence)}
	c.j.putTag(head, journalHeader, &u, true, true)
	be.PutUint32(head[BlockSize-4:], c.j.tailSum(head))
	require.NoError(t, c.j.writeLog(c.next(), head))
	require.NoError(t, c.j.writeLog(c.next(), data))
	if revoked != 0 {
		p := make([]byte, BlockSize)
		journalHead(p, journalRevoke, c.sequence)
		be.PutUint32(p[journalHeader:], journalHeader+4+8)
		be.PutUint64(p[journalHeader+4:], revoked)
		be.PutUint32(p[BlockSize-4:], c.j.tailSum(p))
		require.NoError(t, c.j.writeLog(c.next(), p))
	}
	end := make([]byte, BlockSize)
	journalHead(end, journalCommit, c.sequence)
	be.PutUint32(end[commitSum:], c.j.commitSum(end))
	c.commits = append(c.commits, c.at)
	require.NoError(t, c.j.writeLog(c.next(), end))
	c.sequence++
	c.wrote = 0
}

// fill returns the first byte of a block.
func (c *crashed) fill(t testing.TB, block uint64) byte {
	t.Helper()
	p := make([]byte, 1)
	_, err := c.ReadAt(p, int64(block)*BlockSize)
	require.NoError(t, err)
	return p[0]
}

func (c *crashed) corrupt(t testing.TB, number uint32, offset int64) {
	t.Helper()
	at, err := c.j.locate(number)
	require.NoError(t, err)
	var p [1]byte
	off := int64(at)*BlockSize + offset
	_, err = c.ReadAt(p[:], off)
	require.NoError(t, err)
	p[0] ^= 0xFF
	_, err = c.WriteAt(p[:], off)
	require.NoError(t, err)
	c.wrote = 0
}

func (c *crashed) mustGrow(t testing.TB) {
	t.Helper()
	require.NoError(t, grow(c.memory, 1<<30))
	info, err := Inspect(c.memory)
	require.NoError(t, err)
	require.True(t, info.Clean())
	require.EqualValues(t, 1<<30, info.Size)
}

func TestReplayWrapsAround(t *testing.T) {
	t.Parallel()
	c := crash(t, 4094)
	require.EqualValues(t, 4096, c.j.length)
	for i := range 10 {
		c.transaction(t, logged+uint64(i), byte(i+1), 0)
	}
	c.mustGrow(t)
	for i := range 10 {
		assert.EqualValues(t, i+1, c.fill(t, logged+uint64(i)))
	}
}

func TestReplayRevokes(t *testing.T) {
	t.Parallel()
	c := crash(t, 1)
	c.transaction(t, logged, 1, 0)
	c.transaction(t, logged+1, 1, 0)
	c.transaction(t, logged+2, 1, logged) // forbids the first
	c.transaction(t, logged+1, 2, logged+2)
	c.transaction(t, logged+2, 3, 0) // later than what forbids it
	c.transaction(t, logged+3, 4, logged+3)
	c.mustGrow(t)
	assert.Equal(t, []byte{0, 2, 3, 0},
		[]byte{c.fill(t, logged), c.fill(t, logged+1), c.fill(t, logged+2), c.fill(t, logged+3)})
}

// TestReplayStops ends at the first transaction that was not committed whole.
func TestReplayStops(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		block  int // counted from the last commit block
		offset int64
	}{
		"no commit":         {0, 0},
		"commit kind":       {0, 7},
		"commit sum":        {0, commitSum},
		"commit content":    {0, 0x30},
		"descriptor":        {-2, 0},
		"descriptor number": {-2, 11},
		"descriptor sum":    {-2, 500},
	} {
		c := crash(t, 1)
		c.transaction(t, logged, 1, 0)
		c.transaction(t, logged, 2, 0)
		c.corrupt(t, uint32(int(c.commits[1])+tc.block), tc.offset)
		c.mustGrow(t)
		assert.EqualValues(t, 1, c.fill(t, logged), name)
	}
	empty := crash(t, 1)
	empty.mustGrow(t)
}

func TestReplayRefuses(t *testing.T) {
	t.Parallel()
	one := func() *crashed {
		c := crash(t, 1)
		c.transaction(t, logged, 1, logged+1)
		return c
	}
	data := one()
	data.corrupt(t, 2, 100)
	outside := crash(t, 1)
	outside.transaction(t, 1<<40, 1, 0)
	super := crash(t, 1)
	super.transaction(t, 0, 1, 0)
	start := one()
	be.PutUint32(start.j.block[jsStart:], 5000)
	sealJournalSuper(start.j.block)
	require.NoError(t, start.j.writeLog(0, start.j.block))
	revocation := one()
	long := make([]byte, BlockSize)
	journalHead(long, journalRevoke, 7)
	be.PutUint32(long[journalHeader:], BlockSize)
	be.PutUint32(long[BlockSize-4:], revocation.j.tailSum(long))
	require.NoError(t, revocation.j.writeLog(3, long))
	for name, c := range map[string]*crashed{
		"data sum": data, "outside": outside, "superblock": super, "start": start, "revocation": revocation,
	} {
		c.wrote = 0
		assert.ErrorIs(t, grow(c.memory, 1<<30), ErrCorrupt, name)
		assert.Zero(t, c.wrote, "%s: the image is untouched", name)
	}

	failed := one()
	be.PutUint32(failed.j.block[jsError:], 5)
	sealJournalSuper(failed.j.block)
	require.NoError(t, failed.j.writeLog(0, failed.j.block))
	fast := one()
	be.PutUint32(fast.j.block[jsIncompat:], be.Uint32(fast.j.block[jsIncompat:])|0x20)
	sealJournalSuper(fast.j.block)
	require.NoError(t, fast.j.writeLog(0, fast.j.block))
	for c, want := range map[*crashed]error{failed: ErrDirty, fast: ErrUnsupported} {
		c.wrote = 0
		assert.ErrorIs(t, grow(c.memory, 1<<30), want)
		assert.Zero(t, c.wrote)
	}
}

// TestReplayEndsWithAFullLog would run on forever if nothing but the log ended it.
func TestReplayEndsWithAFullLog(t *testing.T) {
	t.Parallel()
	c := crash(t, 1)
	for range 4095 / 3 {
		c.transaction(t, logged, 1, 0)
	}
	require.EqualValues(t, 1, c.at)
	c.mustGrow(t)
	assert.EqualValues(t, 1, c.fill(t, logged))
}
