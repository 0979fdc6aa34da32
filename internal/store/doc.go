// Package store is the SQLite database of a home directory: sandboxes, their runs, labels
// and root file systems, named volumes, and the catalogues of the image cache and of
// snapshots. It may import a SQLite driver, internal/filelock and the standard library; it
// must never start a process, read a configuration file or know what the JSON that it
// stores means.
//
// The schema and the names in its table of migrations are those of microsandbox 0.6.18, so
// that an official program and ours can use one home in turn, also at the same time. A
// database of another release is refused, not migrated.
//
// Every write that spans rows is one immediate transaction, and is repeated when SQLite
// reports that another process was faster. With WAL and synchronous=NORMAL a process that
// is killed loses nothing it was told is stored; a host that loses power may lose the last
// transactions but never half of one.
package store
