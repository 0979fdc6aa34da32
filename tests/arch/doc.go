// Package arch holds the tests that keep the house in order: which package may import
// which (the floors of the design), that every package says what it is for, and which
// modules each binary links. It may import only the standard library and testify; it
// must never import the packages it judges.
package arch
