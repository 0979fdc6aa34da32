package kernel

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseELF(t *testing.T) {
	t.Parallel()
	data := testVmlinux()
	img, err := Parse(data)
	require.NoError(t, err)
	assert.Equal(t, FormatELF, img.Format)
	assert.Equal(t, uint64(0x1000010), img.Entry)
	assert.False(t, img.Initrd)
	assert.False(t, img.Embedded)
	assert.Equal(t, uint64(0x1006000), img.End())
	require.Equal(t, []Segment{
		{Addr: 0x1000000, Data: data[0x1000:0x2000], MemSize: 0x1000, Offset: 0x1000},
		{Addr: 0x1001000, Data: data[0x2000:0x3000], MemSize: 0x5000, Offset: 0x2000},
	}, img.Segments)
	require.NoError(t, img.Close())
	require.NoError(t, img.Close(), "closing twice")
}

func TestParseELFSortsSegments(t *testing.T) {
	t.Parallel()
	data := testVmlinux()
	first := append([]byte(nil), data[elfHeaderSize:elfHeaderSize+elfProgSize]...)
	copy(data[elfHeaderSize:], data[elfHeaderSize+elfProgSize:elfHeaderSize+2*elfProgSize])
	copy(data[elfHeaderSize+elfProgSize:], first)
	img, err := Parse(data)
	require.NoError(t, err)
	assert.Equal(t, uint64(0x1000000), img.Segments[0].Addr)
}

func TestParseELFFindsInitrdSupport(t *testing.T) {
	t.Parallel()
	data := testVmlinux()
	copy(data[0x2100:], "Initramfs unpacking failed: %s")
	img, err := Parse(data)
	require.NoError(t, err)
	assert.True(t, img.Initrd)
}

// Fields of program header n in testVmlinux.
func prog(n, field int) int { return elfHeaderSize + n*elfProgSize + field }

const (
	fieldKind, fieldFlags, fieldOff, fieldVaddr    = 0, 4, 8, 16
	fieldPaddr, fieldFilesz, fieldMemsz, maxUint64 = 24, 32, 40, ^uint64(0)
)

func TestParseELFRefusesHostileFiles(t *testing.T) {
	t.Parallel()
	put64 := func(at int, v uint64) func([]byte) { return func(b []byte) { le.PutUint64(b[at:], v) } }
	put16 := func(at int, v uint16) func([]byte) { return func(b []byte) { le.PutUint16(b[at:], v) } }
	put32 := func(at int, v uint32) func([]byte) { return func(b []byte) { le.PutUint32(b[at:], v) } }
	put8 := func(at int, v byte) func([]byte) { return func(b []byte) { b[at] = v } }
	for name, c := range map[string]struct {
		change func([]byte)
		want   error
	}{
		"32-bit class":                {put8(4, 1), ErrFormat},
		"big endian":                  {put8(5, 2), ErrFormat},
		"ident version":               {put8(6, 0), ErrFormat},
		"other machine":               {put16(18, 183), ErrFormat},
		"relocatable object":          {put16(16, 1), ErrFormat},
		"core file":                   {put16(16, 4), ErrFormat},
		"header size":                 {put16(54, 57), ErrFormat},
		"no headers":                  {put16(56, 0), ErrFormat},
		"65 headers":                  {put16(56, elfMaxProgs+1), ErrFormat},
		"huge phnum":                  {put16(56, 0xFFFF), ErrFormat},
		"phoff beyond the file":       {put64(32, 0x3001), ErrTruncated},
		"phoff overflows":             {put64(32, maxUint64-8), ErrTruncated},
		"phoff at the very end":       {put64(32, 0x3000-elfProgSize), ErrTruncated},
		"file range overflows":        {put64(prog(0, fieldOff), maxUint64), ErrTruncated},
		"file range wraps to inside":  {put64(prog(0, fieldOff), maxUint64-0xFF), ErrTruncated},
		"file size beyond the file":   {put64(prog(1, fieldFilesz), 0x1001), ErrTruncated},
		"file size maximal":           {put64(prog(1, fieldFilesz), maxUint64), ErrTruncated},
		"more in file than memory":    {put64(prog(1, fieldMemsz), 0xFFF), ErrLayout},
		"memory size maximal":         {put64(prog(1, fieldMemsz), maxUint64), ErrTooLarge},
		"memory size over the limit":  {put64(prog(1, fieldMemsz), MaxMemorySize), ErrTooLarge},
		"address plus size overflows": {put64(prog(1, fieldPaddr), maxUint64-0x10), ErrLayout},
		"address in the device hole":  {put64(prog(1, fieldPaddr), highestAddress), ErrLayout},
		"end in the device hole":      {put64(prog(1, fieldPaddr), highestAddress-0x4FFF), ErrLayout},
		"address in the first MiB":    {put64(prog(1, fieldPaddr), lowestAddress-0x1000), ErrLayout},
		"overlap by a byte":           {put64(prog(1, fieldPaddr), 0x1000FFF), ErrLayout},
		"overlap: same place":         {put64(prog(1, fieldPaddr), 0x1000000), ErrLayout},
		"overlap: around":             {put64(prog(1, fieldPaddr), 0xFFF000), ErrLayout},
		"entry outside":               {put64(24, 0x2000000), ErrLayout},
		"entry one past text":         {put64(24, 0x1001000), ErrLayout},
		"entry before text":           {put64(24, 0xFFFFFF), ErrLayout},
		"entry in data":               {put64(24, 0x1001010), ErrLayout},
		"entry in zeroes":             {put64(24, 0x1002010), ErrLayout},
		"entry virtual":               {put64(24, 0xffffffff81000010), ErrLayout},
		"entry maximal":               {put64(24, maxUint64), ErrLayout},
		"text not executable":         {put32(prog(0, fieldFlags), 4), ErrLayout},
		"text is a note":              {put32(prog(0, fieldKind), 4), ErrLayout},
		"only dynamic, hostile":       {func(b []byte) { put32(prog(0, fieldKind), progDynamic)(b); put64(prog(0, fieldFilesz), maxUint64)(b) }, ErrTruncated},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := testVmlinux()
			c.change(data)
			img, err := Parse(data)
			require.ErrorIs(t, err, c.want)
			assert.Nil(t, img)
		})
	}
}

func TestParseELFIgnoresNotes(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func([]byte){
		"sizes of a note loop": func(b []byte) { le.PutUint32(b[0x1800:], ^uint32(0)); le.PutUint32(b[0x1804:], ^uint32(0)) },
		"outside the file":     func(b []byte) { le.PutUint64(b[prog(2, fieldOff):], maxUint64) },
		"endless":              func(b []byte) { le.PutUint64(b[prog(2, fieldFilesz):], maxUint64) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := testVmlinux()
			change(data)
			img, err := Parse(data)
			require.NoError(t, err)
			assert.Len(t, img.Segments, 2)
		})
	}
}

func TestParseELFSkipsEmptySegments(t *testing.T) {
	t.Parallel()
	data := testVmlinux()
	le.PutUint32(data[prog(2, fieldKind):], progLoad)
	le.PutUint64(data[prog(2, fieldFilesz):], 0)
	le.PutUint64(data[prog(2, fieldMemsz):], 0)
	img, err := Parse(data)
	require.NoError(t, err)
	assert.Len(t, img.Segments, 2)
}

// Every prefix of a valid file is refused: nothing beyond the end is ever needed.
func TestParseRefusesEveryTruncation(t *testing.T) {
	t.Parallel()
	for name, data := range map[string][]byte{
		"elf": testVmlinux(), "bzimage": testBzImage(), "libkrunfw": testLibkrunfw(codeGCC(0x1000000, 0x1000123, soSize)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			last := len(data)
			if name == "bzimage" {
				last -= 15 // the last 16-byte unit may lack its padding
			}
			for n := range last {
				img, err := Parse(data[:n:n])
				if !assert.Error(t, err, "first %d of %d bytes", n, len(data)) {
					return
				}
				require.ErrorIs(t, err, ErrTruncated, "first %d bytes", n)
				require.Nil(t, img)
			}
		})
	}
}

func TestParseRefusesOtherFiles(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		data []byte
		want error
	}{
		"nothing":     {nil, ErrTruncated},
		"zeroes":      {make([]byte, 1<<16), ErrFormat},
		"script":      {append([]byte("#!/bin/sh\n"), make([]byte, 1<<12)...), ErrFormat},
		"gzip":        {append([]byte("\x1f\x8b\x08"), make([]byte, 1<<12)...), ErrFormat},
		"only magic":  {[]byte(elfMagic), ErrTruncated},
		"over limit":  {make([]byte, MaxFileSize+1), ErrTooLarge},
		"PE no HdrS":  {append([]byte("MZ"), make([]byte, 1<<12)...), ErrFormat},
		"elf segment": {testELF(elfTypeExec, 0, 0x100, testProg{kind: 4}), ErrLayout},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse(c.data)
			require.ErrorIs(t, err, c.want)
		})
	}
}

// Work and memory stay bounded however many segments a file announces.
func TestParseELFAllocatesLittle(t *testing.T) {
	progs := make([]testProg, elfMaxProgs)
	for i := range progs {
		progs[i] = testProg{kind: progLoad, flags: 5, paddr: lowestAddress + uint64(i)<<12, memsz: 0x1000}
	}
	data := testELF(elfTypeExec, lowestAddress, 0x4000, progs...)
	le.PutUint64(data[prog(0, fieldFilesz):], 0x100)
	img, err := Parse(data)
	require.NoError(t, err)
	require.Len(t, img.Segments, elfMaxProgs)
	assert.Less(t, testing.AllocsPerRun(10, func() { _, _ = Parse(data) }), 20.0)
}
