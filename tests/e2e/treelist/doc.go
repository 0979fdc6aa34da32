//go:build linux

// Command treelist prints the tree at a directory, entry by entry, as tests/e2e/tree
// writes it:
//
//	treelist ROOT [SKIP...]
//
// It is one static program that needs nothing of the system it runs on. It may import
// tests/e2e/tree only and must never change what it lists.
package main
