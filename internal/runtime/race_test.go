//go:build race

package runtime

// memoryFactor is what the race detector multiplies memory by.
const memoryFactor = 4
