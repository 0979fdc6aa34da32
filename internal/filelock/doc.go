// Package filelock takes flock(2) locks on open files, with a wait that a context can end.
// It imports the standard library and golang.org/x/sys only, and must never create or
// remove a file: a lock on one that somebody unlinks excludes nobody.
package filelock
