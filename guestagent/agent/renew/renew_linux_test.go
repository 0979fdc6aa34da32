//go:build linux

package renew

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// The end-to-end tests look at what comes of it: a test must not set this machine's clock.
func TestPoolInfo(t *testing.T) {
	t.Parallel()
	entropy := bytes.Repeat([]byte{7}, 64)
	b := poolInfo(entropy)
	assert.EqualValues(t, 512, binary.NativeEndian.Uint32(b), "bits")
	assert.EqualValues(t, 64, binary.NativeEndian.Uint32(b[4:]), "bytes")
	assert.Equal(t, entropy, b[8:])
}

func TestWrong(t *testing.T) {
	t.Parallel()
	for ahead, want := range map[time.Duration]bool{
		-time.Hour: true, -1: true, 0: false, 10 * time.Second: false, time.Minute: false, time.Minute + 1: true, 1000 * time.Hour: true,
	} {
		assert.Equal(t, want, wrong(ahead), ahead)
	}
}
