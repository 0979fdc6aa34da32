package kernel

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseBzImage(t *testing.T) {
	t.Parallel()
	const setup = 5 * bzSector
	data := testBzImage()
	img, err := Parse(data)
	require.NoError(t, err)
	assert.Equal(t, FormatBzImage, img.Format)
	assert.Equal(t, uint64(0x1000200), img.Entry)
	assert.True(t, img.Initrd)
	assert.Equal(t, data[0x1F1:0x26C], img.SetupHeader)
	assert.Equal(t, []Segment{{Addr: 0x1000000, Data: data[setup:], MemSize: 0x8000, Offset: setup}}, img.Segments)
}

func TestParseBzImageVariants(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change  func([]byte) []byte
		size    int
		memSize uint64
	}{
		"setup_sects 0 means 4":     {func(b []byte) []byte { b[bzSetupSects] = 0; return b }, 0x1000, 0x8000},
		"signature behind":          {func(b []byte) []byte { return append(b, make([]byte, 2000)...) }, 0x1000, 0x8000},
		"last unit not padded":      {func(b []byte) []byte { return b[:len(b)-15] }, 0x1000 - 15, 0x8000},
		"init_size below the file":  {func(b []byte) []byte { le.PutUint32(b[bzInitSize:], 1); return b }, 0x1000, 0x1000},
		"setup_sects 255":           {withSects255, 0x1000, 0x8000},
		"header as long as it gets": {func(b []byte) []byte { b[bzHeaderLength] = 0xFF; return b }, 0x1000, 0x8000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			img, err := Parse(c.change(testBzImage()))
			require.NoError(t, err)
			require.Len(t, img.Segments, 1)
			assert.Len(t, img.Segments[0].Data, c.size)
			assert.Equal(t, c.memSize, img.Segments[0].MemSize)
			assert.Equal(t, byte(0xA0), img.Segments[0].Data[0], "first byte of the protected-mode part")
		})
	}
}

// withSects255 moves the protected-mode part behind 255 setup sectors.
func withSects255(b []byte) []byte {
	out := append([]byte(nil), b[:5*bzSector]...)
	out[bzSetupSects] = 255
	out = append(out, make([]byte, 251*bzSector)...)
	return append(out, b[5*bzSector:]...)
}

func TestParseBzImageRefusesHostileFiles(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func([]byte)
		want   error
	}{
		"no boot flag":               {func(b []byte) { b[bzBootFlag] = 0 }, ErrFormat},
		"no magic":                   {func(b []byte) { b[bzMagic] = 0 }, ErrFormat},
		"protocol 2.11":              {func(b []byte) { le.PutUint16(b[bzVersion:], 0x020B) }, ErrFormat},
		"protocol 0":                 {func(b []byte) { le.PutUint16(b[bzVersion:], 0) }, ErrFormat},
		"zImage":                     {func(b []byte) { b[bzLoadFlags] = 0 }, ErrFormat},
		"32-bit only":                {func(b []byte) { b[bzXLoadFlags] = 0xFE }, ErrFormat},
		"setup_sects 255":            {func(b []byte) { b[bzSetupSects] = 255 }, ErrTruncated},
		"setup_sects takes it all":   {func(b []byte) { b[bzSetupSects] = 12 }, ErrTruncated},
		"header too short":           {func(b []byte) { b[bzHeaderLength] = 0x61 }, ErrFormat},
		"header length 0":            {func(b []byte) { b[bzHeaderLength] = 0 }, ErrFormat},
		"kernel beyond the file":     {func(b []byte) { le.PutUint32(b[bzSysSize:], 0x102) }, ErrTruncated},
		"kernel of 64 GiB":           {func(b []byte) { le.PutUint32(b[bzSysSize:], 0xFFFFFFFF) }, ErrTruncated},
		"empty kernel":               {func(b []byte) { le.PutUint32(b[bzSysSize:], 0) }, ErrFormat},
		"kernel ends at the entry":   {func(b []byte) { le.PutUint32(b[bzSysSize:], bzEntry64/16) }, ErrFormat},
		"needs 4 GiB":                {func(b []byte) { le.PutUint32(b[bzInitSize:], 0xFFFFFFFF) }, ErrTooLarge},
		"needs a byte over limit":    {func(b []byte) { le.PutUint32(b[bzInitSize:], MaxMemorySize+1) }, ErrTooLarge},
		"address 0":                  {func(b []byte) { le.PutUint64(b[bzPrefAddress:], 0) }, ErrLayout},
		"address maximal":            {func(b []byte) { le.PutUint64(b[bzPrefAddress:], maxUint64) }, ErrLayout},
		"entry wraps around":         {func(b []byte) { le.PutUint64(b[bzPrefAddress:], maxUint64-bzEntry64+1) }, ErrLayout},
		"address in the device hole": {func(b []byte) { le.PutUint64(b[bzPrefAddress:], highestAddress-0x7FFF) }, ErrLayout},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := testBzImage()
			c.change(data)
			img, err := Parse(data)
			require.ErrorIs(t, err, c.want)
			assert.Nil(t, img)
		})
	}
}

// The longest header a byte can express fits the smallest setup code.
func TestParseBzImageOneSetupSector(t *testing.T) {
	t.Parallel()
	data := testBzImage()
	data[bzSetupSects], data[bzHeaderLength] = 1, 0xFF
	img, err := Parse(data)
	require.NoError(t, err)
	assert.Len(t, img.SetupHeader, bzMagic+0xFF-bzSetupSects)
	assert.Equal(t, int64(2*bzSector), img.Segments[0].Offset)
}
