//go:build linux

// Command posix checks whether the file system at a directory does what POSIX, and Linux
// where POSIX leaves a choice, want of it:
//
//	posix [-run REGEXP] [-brief] DIRECTORY
//
// It prints a line for each check, "ok NAME" or "FAIL NAME: what happened", the former not
// with -brief, then "N checks, M failed", and ends with code 1 if one failed. The checks lie in the areas of the FreeBSD project's suite for
// file systems, which Debian does not have, and add content, directories, locks, mappings
// and attributes: most are short scripts of system calls, see script. It needs root, as it
// acts for several users, and makes and removes directories of its own below DIRECTORY.
//
// It is one static program that needs nothing of the system it runs on. It may import the
// standard library and golang.org/x/sys only.
package main
