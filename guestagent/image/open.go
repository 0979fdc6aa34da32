package image

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/gomsb/gomsb/internal/unpacked"
)

// maxMemory bounds the decompressor, bytes; the image is a few mebibytes.
const maxMemory = 32 << 20

// ErrCache says that the cache folder, or the file in it, is not ours alone. The message
// says what to do.
var ErrCache = unpacked.ErrUnsafe

// ErrCorrupt says that the embedded image is not what was built.
var ErrCorrupt = errors.New("embedded guest agent is corrupt")

// Open returns the path of the image, a file to be attached read-only. It is unpacked
// once into cacheDir/agent-<sha256>.erofs (mode 0600, created atomically, the folder too
// if need be), which all machines of this user then share.
//
// A cache folder that others may write to, or a file there that is not a regular file of
// ours, is [ErrCache] and left alone; a damaged file is replaced. On a platform without
// embedded image the error wraps errors.ErrUnsupported.
func Open(cacheDir string) (path string, err error) {
	return open(bundle{zstd: embedded, sha256: SHA256, size: Size}, cacheDir)
}

// bundle is a compressed image and what it must decompress to.
type bundle struct {
	zstd   string
	sha256 string // lower-case hexadecimal
	size   int64  // bytes
}

func open(b bundle, cacheDir string) (string, error) {
	if b.zstd == "" {
		return "", fmt.Errorf("embedded guest agent: none for this platform: %w", errors.ErrUnsupported)
	}
	if cacheDir == "" {
		return "", fmt.Errorf("%w: no folder given", ErrCache)
	}
	c := unpacked.File{Dir: cacheDir, Name: "agent-" + b.sha256 + ".erofs", Size: b.size}
	err := check(c)
	if err == nil {
		return c.Path(), nil
	}
	if errors.Is(err, ErrCache) {
		return "", err
	}
	// Missing or damaged: (re)write it.
	content, err := b.decompress()
	if err != nil {
		return "", err
	}
	if err := c.Store(content); err != nil {
		return "", fmt.Errorf("guest agent cache: %w", err)
	}
	if err := check(c); err != nil {
		return "", err
	}
	return c.Path(), nil
}

func check(c unpacked.File) error {
	f, err := c.Open()
	if err != nil {
		return fmt.Errorf("cached guest agent: %w", err)
	}
	return f.Close()
}

func (b bundle) decompress() ([]byte, error) {
	z, err := zstd.NewReader(strings.NewReader(b.zstd), zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderMaxMemory(maxMemory), zstd.WithDecoderMaxWindow(maxMemory))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	defer z.Close()
	content := make([]byte, b.size)
	if _, err := io.ReadFull(z, content); err != nil {
		return nil, fmt.Errorf("%w: decompress: %w", ErrCorrupt, err)
	}
	var more [1]byte
	if n, err := io.ReadFull(z, more[:]); n != 0 || !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: decompresses to more than %d bytes", ErrCorrupt, b.size)
	}
	if sum := sha256.Sum256(content); hex.EncodeToString(sum[:]) != b.sha256 {
		return nil, fmt.Errorf("%w: checksum mismatch", ErrCorrupt)
	}
	return content, nil
}
