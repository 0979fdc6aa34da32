//go:build unix

package microsandbox

import (
	"os"
	"strconv"
	"syscall"
)

// fileID names an open file independently of its path.
func fileID(f *os.File) (string, error) {
	st, err := f.Stat()
	if err != nil {
		return "", err
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return "", os.ErrInvalid
	}
	return strconv.FormatUint(sys.Ino, 16), nil
}
