package cache

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkCachedImage is what every start from a cached image pays: 15 layers.
func BenchmarkCachedImage(b *testing.B) {
	c := open(b)
	var layers [][]byte
	for n := range 15 {
		layers = append(layers, pack(b, file(fmt.Sprint("file", n), "x")))
	}
	_, err := load(b, c, docker(b, image("app", layers...)), LoadOptions{})
	require.NoError(b, err)
	for b.Loop() {
		_, err := c.Image(b.Context(), "app")
		require.NoError(b, err)
	}
}
