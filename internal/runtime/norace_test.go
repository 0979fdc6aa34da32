//go:build !race

package runtime

const memoryFactor = 1
