package integrity

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"

	"github.com/gomsb/gomsb/snapshot/descriptor"
	"github.com/gomsb/gomsb/snapshot/sparse"
	"github.com/stretchr/testify/require"
)

func write(t *testing.T, b []byte) string {
	path := filepath.Join(t.TempDir(), "f")
	require.NoError(t, os.WriteFile(path, b, 0o600))
	return path
}

func TestGoldenMerkle(t *testing.T) {
	for content, root := range map[string]string{
		"":      "1f44fec2aa3a7a1725f0f626b0599c99526f5a1e7f2817cd50b695597bce05fa",
		"hello": "733a84a145df6c2139c33096e7584c1d8f42b0b981ec7e847b1bf6db73bec941",
	} {
		i, err := Compute(context.Background(), write(t, []byte(content)))
		require.NoError(t, err)
		require.Equal(t, "blake3:"+root, i.Digest)
	}
}

func TestHolesEqualZeros(t *testing.T) {
	const size = 5*leafSize + 123
	dense := make([]byte, size)
	dense[0], dense[2*leafSize+9], dense[size-1] = 1, 2, 3
	holey := filepath.Join(t.TempDir(), "holey")
	f, err := os.Create(holey)
	require.NoError(t, err)
	for _, at := range []int{0, 2*leafSize + 9, size - 1} {
		_, err = f.WriteAt(dense[at:at+1], int64(at))
		require.NoError(t, err)
	}
	require.NoError(t, f.Close())
	ctx := context.Background()
	a, err := Compute(ctx, write(t, dense))
	require.NoError(t, err)
	b, err := Compute(ctx, holey)
	require.NoError(t, err)
	require.Equal(t, a, b)
	dense[3*leafSize] = 1
	c, err := Compute(ctx, write(t, dense))
	require.NoError(t, err)
	require.NotEqual(t, a, c)
}

func TestVerify(t *testing.T) {
	ctx := context.Background()
	path := write(t, []byte("hello"))
	sum := sha256.Sum256([]byte("hello"))
	sized := sha256.Sum256([]byte("msb-sparse-sha256-v1\x00\x05\x00\x00\x00\x00\x00\x00\x00hello"))
	extents := sha256.Sum256([]byte("msb-sparse-sha256-v1\x00\x05\x00\x00\x00\x00\x00\x00\x00D\x00\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00hello"))
	for _, i := range []descriptor.Integrity{
		{Algorithm: descriptor.SHA256, Digest: "sha256:" + hex.EncodeToString(sum[:])},
		{Algorithm: descriptor.SparseSHA256, Digest: "sha256:" + hex.EncodeToString(sized[:])},
		{Algorithm: descriptor.SparseSHA256, Digest: "sha256:" + hex.EncodeToString(extents[:])},
		{Algorithm: descriptor.MerkleBLAKE3, Digest: "blake3:733a84a145df6c2139c33096e7584c1d8f42b0b981ec7e847b1bf6db73bec941"},
	} {
		u := descriptor.Upper{File: "f", SizeBytes: 5, Integrity: &i}
		require.NoError(t, Verify(ctx, path, u), i.Algorithm)
		require.ErrorIs(t, Verify(ctx, write(t, []byte("hellO")), u), ErrMismatch, i.Algorithm)
		require.ErrorIs(t, Verify(ctx, write(t, []byte("hello!")), u), ErrMismatch, i.Algorithm)
	}
	link := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(path, link))
	_, err := Compute(ctx, link)
	require.ErrorIs(t, err, sparse.ErrNotRegular)
}
