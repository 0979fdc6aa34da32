// Package flagtype parses the value syntaxes of msb's flags: sizes, durations, times,
// environment, labels, limits, mounts. Each implements pflag.Value or is a pure
// function. It may import the standard library only.
package flagtype
