// Package atomicfile replaces files and directories wholly or not at all, and durably where nothing
// else is said. It imports the standard library and golang.org/x/sys only and must know nothing of what
// the files hold.
package atomicfile
