package format

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"os"

	"golang.org/x/sys/unix"
)

// sealMagic begins the file "seal". Then come, as u64 in little-endian, what fileState
// tells of "memory", then the digest at the end of "machine", then the SHA-256 of all
// that precedes.
const sealMagic = "gomsbSL1"

// fileState changes whenever the file's content does.
type fileState struct {
	inode, size  uint64
	mtime, ctime uint64 // nanoseconds
}

func stateOf(f *os.File) (fileState, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fileState{}, &os.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	return stateIn(&st), nil
}

func stateIn(st *unix.Stat_t) fileState {
	return fileState{inode: st.Ino, size: uint64(st.Size), mtime: uint64(st.Mtim.Nano()), ctime: uint64(st.Ctim.Nano())}
}

// seal returns the file for a memory file in the given state whose content belongs to
// the machine with the digest.
func seal(s fileState, digest [sha256.Size]byte) []byte {
	b := []byte(sealMagic)
	for _, v := range []uint64{s.inode, s.size, s.mtime, s.ctime} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	b = append(b, digest[:]...)
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

// sealed reports that b is the seal of exactly this memory and machine.
func sealed(b []byte, s fileState, digest [sha256.Size]byte) bool {
	return bytes.Equal(b, seal(s, digest))
}
