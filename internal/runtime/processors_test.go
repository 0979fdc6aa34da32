package runtime

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestTuneProcessors(t *testing.T) {
	was := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(was)
	tuneProcessors(was - 1)
	assert.Equal(t, was, runtime.GOMAXPROCS(0), "there is one for all else")
	tuneProcessors(was)
	assert.Equal(t, was+1, runtime.GOMAXPROCS(0))
}
