package runtime

import (
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTuneProcessors(t *testing.T) {
	was := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(was)
	tuneProcessors(was - 1)
	assert.Equal(t, was, runtime.GOMAXPROCS(0), "there is one for all else")
	tuneProcessors(was)
	assert.Equal(t, was+1, runtime.GOMAXPROCS(0))
}

func TestParseProcessors(t *testing.T) {
	for list, want := range map[string]map[int]bool{"0\n": {0: true}, "0-2,5": {0: true, 1: true, 2: true, 5: true}, "8191": {8191: true}} {
		got, err := parseProcessors(list)
		require.NoError(t, err, list)
		assert.Equal(t, want, got, list)
	}
	for _, list := range []string{"", "a", "2-1", "0-", "-1", "8192", "0,,1", "99999999999999999999", strings.Repeat("0-8191,", 1000) + "0"} {
		_, err := parseProcessors(list)
		assert.ErrorContains(t, err, "damaged", "%.20q", list)
	}
}
