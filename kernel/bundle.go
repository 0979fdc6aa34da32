package kernel

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/internal/unpacked"
)

// zstdMaxMemory bounds the decoder; build.sh compresses with a window of 32 MiB.
const zstdMaxMemory = 64 << 20

// OpenEmbedded opens the kernel that is part of this binary. It is decompressed once
// into cacheDir/kernel-<sha256>.elf (mode 0600, created atomically, the folder too if
// need be) and from then on only mapped, so that all machines share its page cache.
// With an empty cacheDir it is decompressed into private memory each time.
//
// A cache folder that others may write to, or a file there that is not a regular
// file of ours, is ErrCache and left alone; a damaged file is replaced. On a platform
// without embedded kernel the error wraps errors.ErrUnsupported.
func OpenEmbedded(cacheDir string) (*Image, error) {
	return openBundle(bundle{zstd: embedded, sha256: EmbeddedSHA256, size: EmbeddedSize}, cacheDir)
}

// bundle is a zstd-compressed vmlinux and what it must decompress to.
type bundle struct {
	zstd   string
	sha256 string // lower-case hexadecimal
	size   int64  // bytes
}

func openBundle(b bundle, cacheDir string) (*Image, error) {
	if b.zstd == "" {
		return nil, fmt.Errorf("embedded kernel: none for this platform, name a kernel file instead: %w", errors.ErrUnsupported)
	}
	if cacheDir == "" {
		return openInMemory(b)
	}
	c := unpacked.File{Dir: cacheDir, Name: "kernel-" + b.sha256 + ".elf", Size: b.size}
	img, err := openCached(c)
	if err == nil || errors.Is(err, ErrCache) {
		return img, err
	}
	// Missing or damaged: (re)write it, then trust only what is read back.
	mem, err := b.decompress()
	if err != nil {
		return nil, err
	}
	err = c.Store(mem)
	if err = errors.Join(err, unix.Munmap(mem)); err != nil {
		return nil, fmt.Errorf("kernel cache: %w", err)
	}
	return openCached(c)
}

func openInMemory(b bundle) (*Image, error) {
	mem, err := b.decompress()
	if err != nil {
		return nil, err
	}
	img, err := embeddedImage(mem)
	if err != nil {
		return nil, errors.Join(err, unix.Munmap(mem))
	}
	for n := range img.Segments {
		img.Segments[n].Offset = -1
	}
	return img, nil
}

// embeddedImage describes mem, which the Image takes over unless there is an error.
func embeddedImage(mem []byte) (*Image, error) {
	img, err := parseELF(mem)
	if err == nil {
		err = img.check()
	}
	if err != nil {
		return nil, fmt.Errorf("embedded kernel: %w", err)
	}
	img.Embedded, img.Initrd, img.mem = true, true, mem
	return img, nil
}

// decompress returns the ELF file in a read-only anonymous mapping.
func (b bundle) decompress() ([]byte, error) {
	mem, err := unix.Mmap(-1, 0, int(b.size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("embedded kernel: memory for %d bytes: %w", b.size, err)
	}
	if err := b.decompressInto(mem); err != nil {
		return nil, errors.Join(fmt.Errorf("embedded kernel: %w", err), unix.Munmap(mem))
	}
	return mem, nil
}

func (b bundle) decompressInto(mem []byte) error {
	z, err := zstd.NewReader(strings.NewReader(b.zstd), zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderMaxMemory(zstdMaxMemory), zstd.WithDecoderMaxWindow(zstdMaxMemory))
	if err != nil {
		return err
	}
	defer z.Close()
	if _, err := io.ReadFull(z, mem); err != nil {
		return fmt.Errorf("decompress: %w", err)
	}
	var more [1]byte
	if n, err := io.ReadFull(z, more[:]); n != 0 || !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: decompresses to more than %d bytes", ErrFormat, b.size)
	}
	if sum := sha256.Sum256(mem); hex.EncodeToString(sum[:]) != b.sha256 {
		return fmt.Errorf("%w: checksum mismatch", ErrFormat)
	}
	return unix.Mprotect(mem, unix.PROT_READ)
}

// mapFile maps size bytes of f read-only.
func mapFile(f *os.File, size int64) ([]byte, error) {
	return unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_PRIVATE)
}
