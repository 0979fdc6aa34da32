package kernel

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseLibkrunfw(t *testing.T) {
	t.Parallel()
	relative := func(b []byte) []byte { putRela(b, soGot, relaRelative, soBundle); return b }
	absolute := func(b []byte) []byte { putRela(b, soGot, 2<<32|relaAbs64, 0); return b }
	plain := testLibkrunfw(codeGCC(0x1000000, 0x1000123, soSize))
	for name, data := range map[string][]byte{
		"symbol relocation":   plain,
		"relative relocation": relative(testLibkrunfw(codeGCC(0x1000000, 0x1000123, soSize))),
		"absolute relocation": absolute(testLibkrunfw(codeGCC(0x1000000, 0x1000123, soSize))),
		"optimised code":      testLibkrunfw(codeOptimised(0x1000000, 0x1000123, soSize)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			img, err := Parse(data)
			require.NoError(t, err)
			assert.Equal(t, FormatLibkrunfw, img.Format)
			assert.Equal(t, uint64(0x1000123), img.Entry)
			assert.Equal(t, []Segment{{
				Addr: 0x1000000, Data: data[soBundle : soBundle+soSize], MemSize: soSize, Offset: soBundle,
			}}, img.Segments)
		})
	}
}

func TestParseLibkrunfwRefusesHostileFiles(t *testing.T) {
	t.Parallel()
	put := func(at int, v uint64) func([]byte) { return func(b []byte) { le.PutUint64(b[at:], v) } }
	dynValue := func(n int) int { return soDynamic + n*elfDynSize + 8 }
	for name, c := range map[string]struct {
		change func([]byte)
		want   error
	}{
		"symbol missing":             {func(b []byte) { b[soStrtab+1] = 'x' }, ErrFormat},
		"symbol name longer":         {func(b []byte) { b[soStrtab+1+len(getKernel)] = 's' }, ErrFormat},
		"symbol name at the end":     {put(dynValue(2), uint64(1+len(getKernel))), ErrFormat},
		"symbol undefined":           {func(b []byte) { le.PutUint16(b[soSymtab+elfSymSize+6:], 0) }, ErrFormat},
		"symbol name outside":        {func(b []byte) { le.PutUint32(b[soSymtab+elfSymSize:], 0xFFFFFFFF) }, ErrFormat},
		"symbol value outside":       {put(soSymtab+elfSymSize+8, maxUint64), ErrFormat},
		"symbol size tiny":           {put(soSymtab+elfSymSize+16, 3), ErrTruncated},
		"no dynamic section":         {func(b []byte) { le.PutUint32(b[prog(1, fieldKind):], 4) }, ErrFormat},
		"dynamic section endless":    {put(prog(1, fieldFilesz), 2*elfDynSize), ErrFormat},
		"dynamic section outside":    {put(prog(1, fieldOff), maxUint64), ErrTruncated},
		"no symbol table":            {put(soDynamic, 99), ErrFormat},
		"symbol table outside":       {put(dynValue(0), maxUint64), ErrFormat},
		"symbol table at 0":          {put(dynValue(0), 0), ErrFormat},
		"symbol table after strings": {put(dynValue(1), soSymtab-8), ErrFormat},
		"no string table":            {put(soDynamic+elfDynSize, 99), ErrFormat},
		"string table outside":       {put(dynValue(1), soTotal), ErrFormat},
		"string table empty":         {put(dynValue(2), 0), ErrFormat},
		"no relocations":             {put(soDynamic+3*elfDynSize, 99), ErrFormat},
		"relocations empty":          {put(dynValue(4), 0), ErrFormat},
		"relocations outside":        {put(dynValue(3), maxUint64), ErrFormat},
		"relocation elsewhere":       {put(soRela, soGot+8), ErrFormat},
		"relocation type":            {put(soRela+8, 2<<32|7), ErrFormat},
		"relocation symbol outside":  {put(soRela+8, 0xFFFFFFFF<<32|relaGlobDat), ErrTruncated},
		"relocation overflows":       {put(soRela+16, maxUint64-soBundle), ErrTruncated},
		"bundle in no segment":       {put(soSymtab+2*elfSymSize+8, soTotal), ErrTruncated},
		"bundle cut by its segment":  {put(soSymtab+2*elfSymSize+8, soBundle+2), ErrTruncated},
		"bundle at maximal address":  {put(soSymtab+2*elfSymSize+8, maxUint64), ErrTruncated},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := testLibkrunfw(codeGCC(0x1000000, 0x1000123, soSize))
			c.change(data)
			img, err := Parse(data)
			require.ErrorIs(t, err, c.want)
			assert.Nil(t, img)
		})
	}
}

func TestParseLibkrunfwRefusesHostileValues(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		load, entry, size uint32
		want              error
	}{
		"size 0":              {0x1000000, 0x1000123, 0, ErrFormat},
		"size beyond file":    {0x1000000, 0x1000123, soSize + 2, ErrTruncated},
		"size negative":       {0x1000000, 0x1000123, 0xFFFFFFFF, ErrTruncated},
		"entry outside":       {0x1000000, 0x1000000 + soSize, soSize, ErrLayout},
		"entry before":        {0x1000000, 0xFFFFFF, soSize, ErrLayout},
		"load in first MiB":   {0xFF000, 0xFF000, soSize, ErrLayout},
		"load in device hole": {0xD0000000, 0xD0000000, soSize, ErrLayout},
		"load negative":       {0xFFFFFFF0, 0xFFFFFFF8, soSize, ErrLayout},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse(testLibkrunfw(codeGCC(c.load, c.entry, c.size)))
			require.ErrorIs(t, err, c.want)
		})
	}
}

func TestDecodeGetKernelRefusesOtherCode(t *testing.T) {
	t.Parallel()
	good := codeOptimised(1, 2, 3)
	long := make([]byte, 1000)
	for i := range long {
		long[i] = 0x90
	}
	for name, c := range map[string]struct {
		code []byte
		want error
	}{
		"empty":                 {nil, ErrTruncated},
		"returns at once":       {[]byte{0xC3}, ErrFormat},
		"no pointer":            {append(append([]byte(nil), good[:21]...), 0xC3), ErrFormat},
		"only two stores":       {append(append([]byte(nil), good[7:28]...), 0xC3), ErrFormat},
		"jump":                  {append([]byte{0xEB, 0xFE}, good...), ErrFormat},
		"call":                  {append([]byte{0xE8, 0, 0, 0, 0}, good...), ErrFormat},
		"system call":           {append([]byte{0x0F, 0x05}, good...), ErrFormat},
		"store through unknown": {append([]byte{0x48, 0xC7, 0x01, 0, 0, 0, 0}, good...), ErrFormat},
		"store to the stack":    {append([]byte{0x48, 0xC7, 0x04, 0x24, 0, 0, 0, 0}, good...), ErrFormat},
		"unwritten slot":        {append([]byte{0x48, 0x8B, 0x45, 0x10, 0x48, 0xC7, 0, 1, 0, 0, 0}, good...), ErrFormat},
		"too long":              {append(long, good...), ErrFormat},
		"zeroes":                {make([]byte, 64), ErrFormat},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := decodeGetKernel(c.code, soCode)
			require.ErrorIs(t, err, c.want)
		})
	}
	for n := range good {
		_, err := decodeGetKernel(good[:n:n], soCode)
		require.Error(t, err, "first %d bytes", n)
	}
}

func TestDecodeGetKernelFollowsArguments(t *testing.T) {
	t.Parallel()
	// mov rax, rdx; the size is stored first, through a copied register.
	code := append([]byte{0x48, 0x89, 0xD0, 0x48, 0xC7, 0x00, 3, 0, 0, 0}, codeOptimised(1, 2, 9)[:14]...)
	code = append(code, 0x48, 0x8D, 0x05, 0xFB, 0xFF, 0xFF, 0xFF, 0xC3)
	got, err := decodeGetKernel(code, 0x1000)
	require.NoError(t, err)
	assert.Equal(t, getKernelResult{load: 1, entry: 2, size: 3, pointer: 0x1000 + 24 + 7 - 5}, got)
}
