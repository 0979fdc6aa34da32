package atomicfile

import "golang.org/x/sys/unix"

func rename(from, to string, exchange bool) error {
	flags := uint32(unix.RENAME_EXCL)
	if exchange {
		flags = unix.RENAME_SWAP
	}
	return unix.RenameatxNp(unix.AT_FDCWD, from, unix.AT_FDCWD, to, flags)
}
