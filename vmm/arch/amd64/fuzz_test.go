package amd64

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzLoad places segments, a command line, a setup header and an initial RAM disk
// anywhere: it is loaded or refused, and what is refused is refused as ErrBoot.
func FuzzLoad(f *testing.F) {
	f.Add(uint64(kernel), uint64(8192), []byte("kernel"), uint64(mib), uint64(10), uint64(kernel), "quiet", []byte{}, uint32(100), 1)
	f.Add(uint64(kernel), uint64(1), []byte("kernel"), uint64(kernel), uint64(10), uint64(kernel+2), "quiet", header(nil), uint32(1<<20), 32)
	f.Add(^uint64(0), ^uint64(0), []byte("kernel"), uint64(0), uint64(0), uint64(0), "", header(nil)[:80], uint32(0), 0)
	f.Fuzz(func(t *testing.T, addr, size uint64, data []byte, addr2, size2, entry uint64, words string, setup []byte, initrd uint32, vcpus int) {
		m := ram(t, 32*mib)
		err := Load(m, BootConfig{
			Segments: []Segment{{Addr: addr, Size: size, Data: data}, {Addr: addr2, Size: size2}},
			Entry:    entry, CommandLine: words, SetupHeader: setup, Initrd: make([]byte, initrd%(64*mib)), VCPUs: vcpus,
		})
		if err != nil {
			require.ErrorIs(t, err, ErrBoot)
			return
		}
		require.Equal(t, data, append([]byte{}, read(t, m, addr, uint64(len(data)))...))
		p := read(t, m, zeroPageAddr, 4096)
		at := uint64(le.Uint32(p[zpInitrd:]))
		require.True(t, initrd%(64*mib) == 0 || at >= addr+max(size, uint64(len(data))) && at >= addr2+size2 || size == 0 && len(data) == 0 || size2 == 0)
	})
}
