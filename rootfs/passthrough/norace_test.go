//go:build linux && !race

package passthrough

const raceEnabled = false
