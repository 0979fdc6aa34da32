package heap

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestStock(t *testing.T) {
	assert.GreaterOrEqual(t, testing.AllocsPerRun(10, stock), 2.0*stocked/8, "one of each size, with and without pointers")
}

func TestTrim(t *testing.T) {
	var before, after runtime.MemStats
	garbage := make([]byte, 8<<20)
	for i := range garbage {
		garbage[i] = byte(i)
	}
	runtime.ReadMemStats(&before)
	runtime.KeepAlive(garbage) // until here
	Trim()
	runtime.ReadMemStats(&after)
	assert.Greater(t, after.HeapReleased, before.HeapReleased+4<<20, "what nobody uses is the system's")
	assert.Less(t, after.HeapAlloc, before.HeapAlloc-4<<20)
}
