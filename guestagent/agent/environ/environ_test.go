package environ

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestOverlay(t *testing.T) {
	t.Parallel()
	base := []string{"HOME=/", "PATH=/bin", "A=1"}
	assert.Equal(t, []string{"HOME=/", "PATH=/.msb/scripts:/bin", "A=3", "B="},
		Overlay(base, []string{"A=2", "B=", "A=3", "none", "=x"}))
	assert.Equal(t, []string{"HOME=/", "PATH=/.msb/scripts:/x", "A=1"}, Overlay(base, []string{"PATH=/x"}))
	assert.Equal(t, []string{"HOME=/", "PATH=/y", "A=1"}, Overlay(base, []string{"PATH=/x", "PATH=/y"}), "the last one wins as it is")
	assert.Equal(t, []string{"PATH=/.msb/scripts:" + DefaultPath}, Overlay(nil, nil))
	assert.Equal(t, []string{"HOME=/", "PATH=/bin", "A=1"}, base, "untouched")
}

func TestWithScripts(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"/bin":                  "/.msb/scripts:/bin",
		"":                      "/.msb/scripts:",
		"/.msb/scripts":         "/.msb/scripts",
		"/a:/.msb/scripts:/b":   "/a:/.msb/scripts:/b",
		"/a:/.msb/scripts/x:/b": "/.msb/scripts:/a:/.msb/scripts/x:/b",
	} {
		assert.Equal(t, want, WithScripts(path))
	}
}

func TestLookup(t *testing.T) {
	t.Parallel()
	env := []string{"AB=1", "A=2=3"}
	v, ok := Lookup(env, "A")
	assert.True(t, ok)
	assert.Equal(t, "2=3", v)
	_, ok = Lookup(env, "B")
	assert.False(t, ok)
	assert.Equal(t, []string{"AB=1", "A=x"}, Set(env, "A=x"))
}
