// Package residue lists what sandboxes leave on a host, so that a test can compare it
// before and after: files, locks, processes, descriptors and rows. It imports the standard
// library, x/sys and the database's driver; it must never change anything, and no program
// may import it.
package residue
