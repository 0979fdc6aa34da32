//go:build linux

package passthrough

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func benchVM(b *testing.B) *vm {
	b.Helper()
	s, err := New(Config{Root: memoryDir(b), Quota: 1 << 40})
	require.NoError(b, err)
	return newVM(b, s)
}

// BenchmarkSmallFile is the life of a small file: looked up, made, written, closed,
// looked at, and removed.
func BenchmarkSmallFile(b *testing.B) {
	v := benchVM(b)
	b.ReportAllocs()
	name := text("file")
	for b.Loop() {
		_, errno := v.call(opLookup, rootID, name, 0, 0)
		require.Equal(b, unix.ENOENT, errno)
		e := v.create("file")
		v.write(e, 0, 1000)
		_, _ = v.call(opRelease, e.node, longs(e.fh, 0, 0), 0, 0)
		_, _ = v.call(opGetattr, e.node, longs(0, 0), 0, 0)
		_, errno = v.call(opUnlink, rootID, name, 0, 0)
		require.Zero(b, errno)
		v.do(v.Queues[0], v.chain(opForget, e.node, longs(1), 0, 0)[:2]...)
	}
}

// BenchmarkLookup is one request, from the kick to the interrupt.
func BenchmarkLookup(b *testing.B) {
	v := benchVM(b)
	v.create("file")
	b.ReportAllocs()
	name := text("file")
	for b.Loop() {
		_, _ = v.call(opLookup, rootID, name, 0, 0)
	}
}

// BenchmarkList reads a directory of a thousand files with their attributes.
func BenchmarkList(b *testing.B) {
	v := benchVM(b)
	for i := range 1000 {
		e := v.create(fmt.Sprint("file", i))
		_, _ = v.call(opRelease, e.node, longs(e.fh, 0, 0), 0, 0)
	}
	for b.Loop() {
		out, errno := v.call(opOpendir, rootID, words(0, 0), 0, 0)
		require.Zero(b, errno)
		fh, n := le.Uint64(out), 0
		for off := uint64(0); ; {
			out, errno := v.call(opReaddirplus, rootID, append(longs(fh, off), append(words(vmPage, 0), longs(0, 0)...)...), 0, vmPage)
			require.Zero(b, errno)
			list := parseDirents(b, out, true)
			if len(list) == 0 {
				break
			}
			n += len(list)
			off = list[len(list)-1].off
		}
		require.Equal(b, 1002, n)
		_, _ = v.call(opReleasedir, rootID, longs(fh, 0, 0), 0, 0)
	}
}

// BenchmarkRead and BenchmarkWrite move 16 MiB in requests of the largest size.
func BenchmarkRead(b *testing.B) {
	benchIO(b, func(v *vm, e entry, off uint64) { v.read(e, off, maxIO) })
}

func BenchmarkWrite(b *testing.B) {
	benchIO(b, func(v *vm, e entry, off uint64) { v.write(e, off, maxIO) })
}

func benchIO(b *testing.B, move func(*vm, entry, uint64)) {
	v := benchVM(b)
	e := v.create("file")
	const total = 16 << 20
	for off := uint64(0); off < total; off += maxIO {
		v.write(e, off, maxIO)
	}
	b.SetBytes(total)
	for b.Loop() {
		for off := uint64(0); off < total; off += maxIO {
			move(v, e, off)
		}
	}
}
