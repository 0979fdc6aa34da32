package ext4

import (
	"strings"
	"testing"

	"github.com/gomsb/gomsb/rootfs/tree"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestFlatSize(t *testing.T) {
	t.Parallel()
	const group = groupBlocks * BlockSize
	many := tree.New()
	for i := range 100_000 {
		many.Root.Set(strings.Repeat("x", 1+i%50)+string(rune(0x4e00+i/50)), &tree.Inode{Mode: tree.TypeFIFO})
	}
	data := func(size int64) *tree.Tree {
		tr := tree.New()
		require.NoError(t, tr.Add("f", &tree.Inode{Mode: tree.TypeRegular, Size: size, Content: pattern{}}))
		return tr
	}
	for name, tc := range map[string]struct {
		tree *tree.Tree
		want int64
	}{
		"empty":   {tree.New(), 2 * group},
		"inodes":  {many, 14 * group},
		"data":    {data(1 << 30), 10 * group},
		"hostile": {hostile(t), 2 * group},
	} {
		got, err := FlatSize(tc.tree)
		require.NoError(t, err)
		assert.Equal(t, tc.want, got, name)
		require.NoError(t, format(&discard{}, Options{Size: got, Tree: tc.tree, UUID: testUUID}), name)
	}
	_, err := FlatSize(data(14 << 40))
	assert.NoError(t, err)
	_, err = FlatSize(data((1<<32 - 1) * BlockSize))
	assert.ErrorIs(t, err, ErrTree)
	_, err = FlatSize(&tree.Tree{})
	assert.ErrorIs(t, err, ErrTree)
}
