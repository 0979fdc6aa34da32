//go:build linux && race

package passthrough

const raceEnabled = true
