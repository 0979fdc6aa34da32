package stitch

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The text that microsandbox 0.6.18 wrote for these two extents.
const observed = `# Disk DescriptorFile
version=1
CID=fffffffe
parentCID=ffffffff
createType="twoGbMaxExtentFlat"

# Extent description
RW 120 FLAT "/home/u/.microsandbox/cache/fsmeta/sha256_dba722077e20911f1ffe45b80846aaed7f3f0ad0645d31fa589a0f27a4ec77c1.erofs" 0
RW 4008 FLAT "/home/u/.microsandbox/cache/layers/sha256_fc64844b74cf2e678b8043303e0e31586a9d66a5c0ec279f5569bbc0639263c8.erofs" 0

# The Disk Data Base
#DDB
ddb.virtualHWVersion = "4"
ddb.geometry.cylinders = "5"
ddb.geometry.heads = "16"
ddb.geometry.sectors = "63"
ddb.adapterType = "ide"
`

func TestDescriptorEqualsObserved(t *testing.T) {
	t.Parallel()
	got, err := Descriptor([]Extent{
		{Path: "/home/u/.microsandbox/cache/fsmeta/sha256_dba722077e20911f1ffe45b80846aaed7f3f0ad0645d31fa589a0f27a4ec77c1.erofs", Size: 120 * 512},
		{Path: "/home/u/.microsandbox/cache/layers/sha256_fc64844b74cf2e678b8043303e0e31586a9d66a5c0ec279f5569bbc0639263c8.erofs", Size: 4008 * 512},
	})
	require.NoError(t, err)
	assert.Equal(t, observed, string(got))
}

func TestDescriptorSplitsLongExtents(t *testing.T) {
	t.Parallel()
	got, err := Descriptor([]Extent{{Path: "/a b", Size: 5<<30 + 4096}})
	require.NoError(t, err)
	assert.Contains(t, string(got), "RW 4194304 FLAT \"/a b\" 0\nRW 4194304 FLAT \"/a b\" 4194304\nRW 2097160 FLAT \"/a b\" 8388608\n\n")
	got, err = Descriptor([]Extent{{Path: "/a", Size: 2 << 30}})
	require.NoError(t, err)
	assert.Contains(t, string(got), "description\nRW 4194304 FLAT \"/a\" 0\n\n")
}

func TestDescriptorRefuses(t *testing.T) {
	t.Parallel()
	for name, extents := range map[string][]Extent{
		"none":      nil,
		"relative":  {{Path: "a", Size: 512}},
		"quote":     {{Path: `/a"b`, Size: 512}},
		"newline":   {{Path: "/a\nb", Size: 512}},
		"empty":     {{Path: "/a", Size: 0}},
		"negative":  {{Path: "/a", Size: -512}},
		"unaligned": {{Path: "/a", Size: 513}},
		"overflow":  {{Path: "/a", Size: 1<<62 + 1<<61}, {Path: "/b", Size: 1<<62 + 1<<61}},
	} {
		_, err := Descriptor(extents)
		assert.ErrorIs(t, err, ErrExtent, name)
	}
}

func TestParseInvertsDescriptor(t *testing.T) {
	t.Parallel()
	for _, extents := range [][]Extent{
		{{Path: "/a", Size: 512}},
		{{Path: "/a", Size: 4096}, {Path: "/b c", Size: 5<<30 + 4096}, {Path: "/b c", Size: 5<<30 + 4096}, {Path: "/d", Size: 2 << 30}},
	} {
		text, err := Descriptor(extents)
		require.NoError(t, err)
		got, err := Parse(text)
		require.NoError(t, err)
		assert.Equal(t, extents, got)
	}
	got, err := Parse([]byte(observed))
	require.NoError(t, err)
	assert.Len(t, got, 2)
	for name, text := range map[string]string{
		"empty":           "",
		"other text":      "hello",
		"changed":         strings.Replace(observed, `sectors = "63"`, `sectors = "62"`, 1),
		"tail":            observed + "\n",
		"geometry":        strings.Replace(observed, `cylinders = "5"`, `cylinders = "6"`, 1),
		"sparse":          strings.Replace(observed, "FLAT", "SPARSE", 1),
		"no number":       strings.Replace(observed, "RW 120", "RW x", 1),
		"overflow":        strings.Replace(observed, "RW 120", "RW 36028797018963968", 1),
		"negative":        strings.Replace(observed, "RW 120", "RW -120", 1),
		"offset of first": strings.Replace(observed, `.erofs" 0`, `.erofs" 120`, 1),
		"relative":        strings.ReplaceAll(observed, `"/home`, `"home`),
	} {
		_, err := Parse([]byte(text))
		assert.ErrorIs(t, err, ErrDescriptor, name)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(observed)
	f.Fuzz(func(t *testing.T, text string) {
		extents, err := Parse([]byte(text))
		if err != nil {
			return
		}
		again, err := Descriptor(extents)
		require.NoError(t, err)
		assert.Equal(t, text, string(again))
	})
}
