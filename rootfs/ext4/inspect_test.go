package ext4

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestInspect(t *testing.T) {
	t.Parallel()
	info, err := Inspect(formatted(t, Options{Size: 1 << 30, Label: "x"}))
	require.NoError(t, err)
	assert.EqualValues(t, 1<<30, info.Size)
	assert.EqualValues(t, BlockSize, info.BlockSize)
	assert.Equal(t, "x", info.Label)
	assert.Equal(t, Features{0x3c, 0xc2, 0x46b}, info.Features)
	assert.Greater(t, info.Free, int64(900<<20))
	assert.True(t, info.Clean())

	for name, tc := range map[string]struct {
		change          func(s *superblock)
		recovery, check bool
	}{
		"in use":  {func(s *superblock) { s.put32(sbIncompat, s.u32(sbIncompat)|incompatRecover) }, true, false},
		"errors":  {func(s *superblock) { s.put16(sbState, stateValid|stateError) }, false, true},
		"invalid": {func(s *superblock) { s.put16(sbState, 0) }, false, true},
	} {
		info, err := Inspect(patched(t, tc.change))
		require.NoError(t, err, name)
		assert.Equal(t, tc.recovery, info.NeedsRecovery, name)
		assert.Equal(t, tc.check, info.NeedsCheck, name)
		assert.False(t, info.Clean(), name)
	}
}

type broken struct{}

var errBroken = errors.New("broken")

func (broken) ReadAt([]byte, int64) (int, error) { return 0, errBroken }

func TestInspectRefuses(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, superOffset, superOffset + superSize - 1, 1 << 20} {
		_, err := Inspect(bytes.NewReader(make([]byte, size)))
		assert.ErrorIs(t, err, ErrNotExt4, size)
	}
	_, err := Inspect(broken{})
	assert.ErrorIs(t, err, errBroken)
	_, err = Inspect(patched(t, func(s *superblock) { s.put32(sbGroupBlocks, 3) }))
	assert.ErrorIs(t, err, ErrCorrupt)
	m := patched(t, func(*superblock) {})
	_, err = m.WriteAt([]byte("changed"), superOffset+sbLabel)
	require.NoError(t, err)
	_, err = Inspect(m)
	assert.ErrorIs(t, err, ErrCorrupt, "the checksum does not match")
	_, err = Inspect(io.NewSectionReader(m, 0, 1500))
	assert.ErrorIs(t, err, ErrNotExt4)
}
