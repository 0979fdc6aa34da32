package runtime

import "os"

// residentReader reads how much anonymous memory this process occupies: its guest's, but
// for a few MiB. A nil one knows nothing.
type residentReader struct {
	file *os.File
	buf  [128]byte
	page uint64 // bytes
}

// openResident returns nil where there is no /proc.
func openResident() *residentReader {
	f, err := os.Open("/proc/self/statm")
	if err != nil {
		return nil
	}
	return &residentReader{file: f, page: uint64(os.Getpagesize())}
}

func (r *residentReader) bytes() (uint64, bool) {
	if r == nil {
		return 0, false
	}
	n, err := r.file.ReadAt(r.buf[:], 0)
	if n == 0 && err != nil {
		return 0, false
	}
	// "size resident shared ...", in pages; shared is what files are behind.
	_, rest := field(r.buf[:n])
	resident, rest := field(rest)
	shared, _ := field(rest)
	return (resident - min(shared, resident)) * r.page, true
}

// field cuts a decimal number off b.
func field(b []byte) (n uint64, rest []byte) {
	for i, c := range b {
		if c < '0' || c > '9' {
			return n, b[i+1:]
		}
		n = 10*n + uint64(c-'0')
	}
	return n, nil
}

func (r *residentReader) close() error {
	if r == nil {
		return nil
	}
	return r.file.Close()
}
