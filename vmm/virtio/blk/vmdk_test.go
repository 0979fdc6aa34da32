package blk

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/virtio/virtiotest"
)

// head is what comes before the extents of a descriptor.
const head = "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType=\"twoGbMaxExtentFlat\"\n\n# Extent description\n"

// observed is what microsandbox 0.6.18 wrote for an image of one layer.
const observed = head + `RW 120 FLAT "/home/u/.microsandbox/cache/fsmeta/sha256_dba722077e20911f1ffe45b80846aaed7f3f0ad0645d31fa589a0f27a4ec77c1.erofs" 0
RW 4008 FLAT "/home/u/.microsandbox/cache/layers/sha256_fc64844b74cf2e678b8043303e0e31586a9d66a5c0ec279f5569bbc0639263c8.erofs" 0

# The Disk Data Base
#DDB
ddb.virtualHWVersion = "4"
ddb.geometry.cylinders = "5"
ddb.geometry.heads = "16"
ddb.geometry.sectors = "63"
ddb.adapterType = "ide"
`

func TestParseVMDK(t *testing.T) {
	t.Parallel()
	got, err := parseVMDK([]byte(observed))
	require.NoError(t, err)
	assert.Equal(t, []vmdkExtent{
		{120, "/home/u/.microsandbox/cache/fsmeta/sha256_dba722077e20911f1ffe45b80846aaed7f3f0ad0645d31fa589a0f27a4ec77c1.erofs", 0},
		{4008, "/home/u/.microsandbox/cache/layers/sha256_fc64844b74cf2e678b8043303e0e31586a9d66a5c0ec279f5569bbc0639263c8.erofs", 0},
	}, got)
	got, err = parseVMDK([]byte(strings.ReplaceAll(head+"RDONLY 4194304 FLAT \"/a b/c\" 4194304\nRW 1 ZERO\nRW 7 FLAT \"/d\" 0", "\n", "\r\n")))
	require.NoError(t, err)
	assert.Equal(t, []vmdkExtent{{4194304, "/a b/c", 4194304}, {1, "", 0}, {7, "/d", 0}}, got)
}

func TestParseVMDKRefuses(t *testing.T) {
	t.Parallel()
	const extent = "RW 8 FLAT \"/a\" 0\n"
	for name, c := range map[string]struct{ text, want string }{
		"nothing":            {"", "does not begin"},
		"binary":             {"KDMV\x01\x00\x00\x00", "sparse"},
		"other text":         {"hello\n" + extent, "does not begin"},
		"no extents":         {head, "no extents"},
		"no version":         {"# Disk DescriptorFile\ncreateType=\"monolithicFlat\"\n" + extent, "no version"},
		"no type":            {"# Disk DescriptorFile\nversion=1\n" + extent, "no createType"},
		"version 2":          {strings.Replace(head, "version=1", "version=2", 1) + extent, "version"},
		"sparse type":        {strings.Replace(head, "twoGbMaxExtentFlat", "monolithicSparse", 1) + extent, "createType"},
		"parent":             {strings.Replace(head, "parentCID=ffffffff", "parentCID=12345678", 1) + extent, "parentCID"},
		"parent file":        {head + "parentFileNameHint=\"/base.vmdk\"\n" + extent, "parentFileNameHint"},
		"change tracking":    {head + "changeTrackPath=\"x\"\n" + extent, "changeTrackPath"},
		"second version":     {head + "version=1\n" + extent, "second version"},
		"stray words":        {head + extent + "hello world\n", "neither"},
		"no key":             {head + extent + "= 1\n", "neither"},
		"no access":          {head + "NOACCESS 8 FLAT \"/a\" 0\n", "access"},
		"no sectors":         {head + "RW 0 FLAT \"/a\" 0\n", "sectors"},
		"negative":           {head + "RW -8 FLAT \"/a\" 0\n", "sectors"},
		"many sectors":       {head + "RW 99999999999999999999 FLAT \"/a\" 0\n", "sectors"},
		"larger than 64 TiB": {head + strings.Repeat("RW 100000000000 ZERO\n", 2), "64 TiB"},
		"sparse":             {head + "RW 8 SPARSE \"/a\" 0\n", "SPARSE"},
		"device":             {head + "RW 8 VMFSRDM \"/dev/sda\" 0\n", "VMFSRDM"},
		"zeros with a path":  {head + "RW 8 ZERO \"/a\" 0\n", "ZERO"},
		"relative":           {head + "RW 8 FLAT \"a\" 0\n", "not absolute"},
		"parent directory":   {head + "RW 8 FLAT \"../a\" 0\n", "not absolute"},
		"empty path":         {head + "RW 8 FLAT \"\" 0\n", "not absolute"},
		"no quotes":          {head + "RW 8 FLAT /a 0\n", "quoted"},
		"no end quote":       {head + "RW 8 FLAT \"/a 0\n", "quoted"},
		"control character":  {head + "RW 8 FLAT \"/a\x01\" 0\n", "control"},
		"no offset":          {head + "RW 8 FLAT \"/a\"\n", "quoted"},
		"negative offset":    {head + "RW 8 FLAT \"/a\" -1\n", "quoted"},
		"large offset":       {head + "RW 8 FLAT \"/a\" 18446744073709551615\n", "quoted"},
		"more words":         {head + "RW 8 FLAT \"/a\" 0 1\n", "quoted"},
		"many extents":       {head + strings.Repeat("RW 1 ZERO\n", maxExtents+1), "more than"},
	} {
		got, err := parseVMDK([]byte(c.text))
		assert.ErrorContains(t, err, c.want, name)
		assert.Nil(t, got, name)
	}
}

func TestOpenVMDKRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	disk := image(t, make([]byte, 8*SectorSize+100))
	open := func(text string) error {
		path := filepath.Join(dir, "d.vmdk")
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		_, err := OpenVMDK(path)
		return err
	}
	flat := func(n, off int, path string) string { return fmt.Sprintf(head+"RW %d FLAT %q %d\n", n, path, off) }
	require.NoError(t, open(flat(8, 0, disk)))
	for name, text := range map[string]string{
		"too long":       flat(9, 0, disk),
		"offset too far": flat(8, 1, disk),
		"directory":      flat(8, 0, dir),
		"no disk":        "",
		"second missing": flat(8, 0, disk) + fmt.Sprintf("RW 1 FLAT %q 8\n", disk),
	} {
		assert.ErrorIs(t, open(text), ErrImage, name)
	}
	assert.ErrorIs(t, open(flat(8, 0, disk)+"RW 1 FLAT \"/nowhere/at/all\" 0\n"), os.ErrNotExist)
	assert.ErrorIs(t, open(head+strings.Repeat("#", maxDescriptor)), ErrImage)
	assert.ErrorContains(t, open("KDMV"+strings.Repeat("#", maxDescriptor)), "sparse")
	_, err := OpenVMDK(filepath.Join(dir, "none"))
	assert.ErrorIs(t, err, os.ErrNotExist)
	_, err = OpenVMDK(dir)
	assert.ErrorIs(t, err, ErrImage)
}

// openVMDK makes and opens a descriptor.
func openVMDK(t testing.TB, lines string) Backend {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.vmdk")
	require.NoError(t, os.WriteFile(path, []byte(head+lines), 0o600))
	b, err := OpenVMDK(path)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, b.Close()) })
	return b
}

// TestVMDKIsAConcatenation reads everything from everywhere, over the extents' borders.
func TestVMDKIsAConcatenation(t *testing.T) {
	t.Parallel()
	a, b := noise(40*SectorSize), noise(100*SectorSize)
	pa, pb := image(t, a), image(t, b)
	var want []byte
	want = append(want, a[:5*SectorSize]...)
	want = append(want, a[5*SectorSize:]...)
	want = append(want, make([]byte, 3*SectorSize)...)
	want = append(want, b[7*SectorSize:8*SectorSize]...)
	want = append(want, make([]byte, 5*SectorSize)...)
	want = append(want, b...)
	disk := openVMDK(t, fmt.Sprintf("RW 5 FLAT %q 0\nRW 35 FLAT %q 5\nRW 1 ZERO\nRW 2 ZERO\nRW 1 FLAT %q 7\nRDONLY 5 ZERO\nRW 100 FLAT %q 0\n", pa, pa, pb, pb))
	require.EqualValues(t, len(want), disk.Size())
	assert.Len(t, disk.(*concat).parts, 5, "neighbours in one file are one part")
	assert.True(t, disk.ReadOnly())
	g := newGuest(t, disk, virtiotest.Config{Indirect: true})
	assert.True(t, bytes.Equal(want, g.read(0, len(want))))
	assert.NotZero(t, g.Features&featureReadOnly)
	sectors := len(want) / SectorSize
	for sector := range sectors {
		n := min(10, sectors-sector)
		require.Equal(t, want[sector*SectorSize:(sector+n)*SectorSize], g.read(uint64(sector), n*SectorSize), "from sector %d", sector)
	}
	r := rand.New(rand.NewPCG(5, 6))
	for range 100 {
		sector := r.IntN(sectors)
		n := 1 + r.IntN(sectors-sector)
		var bufs []virtiotest.Buffer
		for left, off := n*SectorSize, 0; left > 0; {
			k := min(left, 1+r.IntN(3000))
			bufs = append(bufs, in(uint64(off), uint32(k)))
			off, left = off+k, left-k
		}
		for i := range g.data(0, n*SectorSize) {
			g.data(0, n*SectorSize)[i] = 0xaa
		}
		g.ok(kindRead, uint64(sector), bufs...)
		require.True(t, bytes.Equal(want[sector*SectorSize:(sector+n)*SectorSize], g.data(0, n*SectorSize)))
	}
	for _, err := range []error{disk.WriteV(0, nil), disk.Discard(0, 1), disk.WriteZeroes(0, 1, true)} {
		assert.ErrorIs(t, err, ErrReadOnly)
	}
	assert.NoError(t, disk.Flush())
}

// TestLayerIsTruncated is an error only where the layer was (N53).
func TestLayerIsTruncated(t *testing.T) {
	t.Parallel()
	pa, pb := image(t, noise(8*SectorSize)), image(t, noise(8*SectorSize))
	g := newGuest(t, openVMDK(t, fmt.Sprintf("RW 8 FLAT %q 0\nRW 8 FLAT %q 0\n", pa, pb)), virtiotest.Config{})
	require.NoError(t, os.Truncate(pa, 4*SectorSize))
	s, _ := g.do(kindRead, 0, in(0, 16*SectorSize))
	assert.Equal(t, statusIOError, s)
	s, _ = g.do(kindRead, 7, in(0, 2*SectorSize))
	assert.Equal(t, statusIOError, s)
	assert.Equal(t, noise(8*SectorSize), g.read(8, 8*SectorSize))
	assert.Equal(t, noise(4*SectorSize), g.read(0, 4*SectorSize))
}
