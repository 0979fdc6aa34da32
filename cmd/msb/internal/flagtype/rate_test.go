package flagtype

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRate(t *testing.T) {
	for s, want := range map[string]struct {
		n     uint64
		every time.Duration
	}{
		"10": {10, time.Second}, "64K": {64 << 10, time.Second}, "10m/2s": {10 << 20, 2 * time.Second}, "1G/100ms": {1 << 30, 100 * time.Millisecond},
		"17179869183G": {17179869183 << 30, time.Second},
	} {
		n, every, err := Rate(s, Bytes)
		require.NoError(t, err, s)
		assert.Equal(t, want.n, n, s)
		assert.Equal(t, want.every, every, s)
	}
	for _, s := range []string{"", "K", "1T", "-1", "1.5M", "1M/", "1M/x", "0", "1M/0s", "17179869184G", "1M/1s/1s"} {
		_, _, err := Rate(s, Bytes)
		assert.Error(t, err, s)
	}
	_, _, err := Rate("1K", Count)
	assert.Error(t, err)
}
