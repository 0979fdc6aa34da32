// Package ui is what the msb command shows: tables, ticks, warnings and errors, with
// colour only on terminals. It may import the standard library, x/term and sdk; it must
// never decide anything.
package ui
