// Package journal writes the log files of one sandbox: exec.log (JSON Lines of what
// commands print), runtime.log (the runtime's own diagnostics) and kernel.log (the guest's
// console). It may import the standard library only; it must never block on anything but
// the file it writes, and never interpret what it is given.
//
// Readers tail the files by inode and offset while they grow, so a line is always written
// by one write, and rotation renames.
package journal
