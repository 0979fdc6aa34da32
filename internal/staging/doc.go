// Package staging keeps directories that are on their way to their names: made beside the
// place where they will be, locked while somebody works on them, and swept by whoever comes
// next when that process died. It imports the standard library and internal/filelock only,
// and must never remove a directory whose content the caller does not call its own.
package staging
