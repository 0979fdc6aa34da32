package blob

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/oci"
)

func pack(t testing.TB, c Compression, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	switch c {
	case Gzip:
		w := gzip.NewWriter(&b)
		_, err := w.Write(data)
		require.NoError(t, err)
		require.NoError(t, w.Close())
	case Zstd:
		w, err := zstd.NewWriter(&b)
		require.NoError(t, err)
		_, err = w.Write(data)
		require.NoError(t, err)
		require.NoError(t, w.Close())
	default:
		b.Write(data)
	}
	return b.Bytes()
}

func unpack(raw []byte, limits Limits) ([]byte, error) {
	d, err := Decompress(bytes.NewReader(raw), limits)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(d)
	return data, errors.Join(err, d.Close())
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for _, data := range []string{"", "abc", strings.Repeat("some text ", 100_000)} {
		for _, c := range []Compression{None, Gzip, Zstd} {
			raw := pack(t, c, []byte(data))
			assert.Equal(t, c, Detect(raw))
			got, err := unpack(raw, DefaultLimits())
			require.NoError(t, err, c)
			assert.True(t, string(got) == data, c)
			if c == None || len(raw) < 20 {
				continue
			}
			_, err = unpack(raw[:len(raw)-5], DefaultLimits())
			assert.ErrorIs(t, err, oci.ErrCompression, "%s cut short", c)
			_, err = unpack(append(bytes.Clone(raw), "behind"...), DefaultLimits())
			assert.ErrorIs(t, err, oci.ErrCompression, "%s with a tail", c)
			raw[len(raw)-1] ^= 1
			_, err = unpack(raw, DefaultLimits())
			assert.ErrorIs(t, err, oci.ErrCompression, "%s with a wrong checksum", c)
		}
	}
}

func TestConcatenatedMembers(t *testing.T) {
	t.Parallel()
	for _, c := range []Compression{Gzip, Zstd} {
		got, err := unpack(append(pack(t, c, []byte("one ")), pack(t, c, []byte("two"))...), DefaultLimits())
		require.NoError(t, err)
		assert.Equal(t, "one two", string(got))
	}
}

func TestBombs(t *testing.T) {
	t.Parallel()
	zeros := make([]byte, 8<<20)
	for _, c := range []Compression{None, Gzip, Zstd} {
		raw := pack(t, c, zeros)
		_, err := unpack(raw, Limits{Bytes: 4 << 20, Ratio: 1 << 20, RatioFloor: 0})
		assert.ErrorIs(t, err, oci.ErrLimit, "%s: absolute", c)
		_, err = unpack(raw, Limits{Bytes: 1 << 30, Ratio: 100, RatioFloor: 1 << 20})
		if c == None {
			assert.NoError(t, err)
		} else {
			assert.ErrorIs(t, err, oci.ErrLimit, "%s: ratio", c)
		}
		_, err = unpack(raw, Limits{Bytes: 1 << 30, Ratio: 100, RatioFloor: 8 << 20})
		assert.NoError(t, err, "%s: below the floor", c)
	}
	// A frame header that demands a window of 1 GiB: descriptor 0, exponent 20.
	_, err := unpack([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 20 << 3, 1, 0, 0}, DefaultLimits())
	assert.ErrorIs(t, err, oci.ErrLimit)
}

func TestSourceErrorsPassThrough(t *testing.T) {
	t.Parallel()
	broken := errors.New("cable pulled")
	for _, c := range []Compression{None, Gzip, Zstd} {
		raw := pack(t, c, bytes.Repeat([]byte("0123456789"), 1000))
		for _, n := range []int{0, 2, 12, len(raw) - 1} {
			d, err := Decompress(io.MultiReader(bytes.NewReader(raw[:n]), iotest.ErrReader(broken)), DefaultLimits())
			if err == nil {
				_, err = io.Copy(io.Discard, d)
			}
			assert.ErrorIs(t, err, broken, "%s after %d bytes", c, n)
			assert.NotErrorIs(t, err, oci.ErrCompression)
		}
	}
}

func TestVerifier(t *testing.T) {
	t.Parallel()
	data := "content"
	right, long := digest.FromString(data), digest.SHA512.FromString(data)
	for name, c := range map[string]struct {
		digest digest.Digest
		size   int64
		want   error
	}{
		"right":       {right, 7, nil},
		"any size":    {right, -1, nil},
		"sha512":      {long, 7, nil},
		"other":       {digest.FromString("other"), 7, oci.ErrDigestMismatch},
		"too long":    {right, 6, oci.ErrSizeMismatch},
		"too short":   {right, 8, oci.ErrSizeMismatch},
		"zero length": {right, 0, oci.ErrSizeMismatch},
	} {
		v, err := NewVerifier(iotest.OneByteReader(strings.NewReader(data)), c.digest, c.size)
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, v)
		if c.want == nil {
			assert.NoError(t, err, name)
			assert.EqualValues(t, 7, v.Bytes())
		} else {
			assert.ErrorIs(t, err, c.want, name)
		}
	}
	for _, bad := range []digest.Digest{"", "sha256", "sha256:12", "md5:" + digest.Digest(strings.Repeat("a", 32)), "sha256:../../x"} {
		_, err := NewVerifier(strings.NewReader(""), bad, 0)
		assert.ErrorIs(t, err, oci.ErrManifest, string(bad))
	}
}

func FuzzDecompress(f *testing.F) {
	f.Add(pack(f, Gzip, []byte("data")))
	f.Add(pack(f, Zstd, []byte("data")))
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := unpack(raw, Limits{Bytes: 1 << 20, Ratio: 1000, RatioFloor: 1 << 16})
		if err == nil {
			assert.LessOrEqual(t, len(got), 1<<20)
		}
	})
}
