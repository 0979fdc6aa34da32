package kernel

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// checkPromises asserts what Parse promises about any image it accepts.
func checkPromises(t *testing.T, data []byte) {
	img, err := Parse(data)
	if err != nil {
		require.Nil(t, img)
		return
	}
	var end, total uint64 = lowestAddress, 0
	entered := false
	require.LessOrEqual(t, len(img.Segments), elfMaxProgs)
	for _, s := range img.Segments {
		require.GreaterOrEqual(t, s.Addr, end)
		require.GreaterOrEqual(t, s.MemSize, uint64(len(s.Data)))
		end = s.End()
		require.LessOrEqual(t, end, uint64(highestAddress))
		total += s.MemSize
		require.Equal(t, len(s.Data), cap(s.Data), "a segment must not be extendable into the rest of the file")
		require.Equal(t, data[s.Offset:s.Offset+int64(len(s.Data))], s.Data)
		entered = entered || img.Entry >= s.Addr && img.Entry < s.Addr+uint64(len(s.Data))
	}
	require.LessOrEqual(t, total, uint64(MaxMemorySize))
	require.True(t, entered)
	require.NoError(t, img.Close())
}

func FuzzELF(f *testing.F) {
	f.Add(testVmlinux())
	f.Add(testVmlinux()[:0x100])
	f.Fuzz(checkPromises)
}

func FuzzBzImage(f *testing.F) {
	f.Add(testBzImage())
	f.Add(withSects255(testBzImage()))
	f.Fuzz(checkPromises)
}

// FuzzLibkrunfw changes a well-formed bundle at one place and replaces its code, so
// that most inputs get past the outer headers.
func FuzzLibkrunfw(f *testing.F) {
	f.Add(codeGCC(0x1000000, 0x1000123, soSize), uint16(soRela), []byte{})
	f.Add(codeOptimised(0x1000000, 0x1000123, soSize), uint16(soDynamic), []byte{4})
	f.Add([]byte{0xC3}, uint16(0), []byte("\x7fELF"))
	f.Fuzz(func(t *testing.T, code []byte, at uint16, patch []byte) {
		if len(code) > soGot-soCode {
			code = code[:soGot-soCode]
		}
		data := testLibkrunfw(code)
		copy(data[int(at)%len(data):], patch)
		checkPromises(t, data)
	})
}
