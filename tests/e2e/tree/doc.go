//go:build linux

// Package tree describes a directory tree entry by entry, in a form that can be compared
// as text: the same code looks at a root from inside a guest and at what GNU tar made of
// the same image on the host. It may import the standard library and x/sys only, so that
// the program it becomes part of is small and static; it must never follow a symbolic
// link or change anything.
package tree
