// Package boot turns a guest that has only the agent's tiny read-only root into the
// sandbox that the host describes: it takes the bootstrap message, assembles the root file
// system and moves into it, mounts what users asked for, writes the few files that depend
// on the sandbox, and configures the network. It may import guestagent/proto, the
// account, environ, netconf and renew packages, the standard library and x/sys; it must never
// start a process, and must change nothing of the image beyond what the protocol says.
//
// # Order
//
// Everything that can be refused is checked before the first mount. The tiny root has the
// empty directories lower, upper, newroot, dev, proc and sys; see [TinyRoot]. The kernel
// mounts devtmpfs on dev. After the pivot the tiny root stays mounted, out of reach, and
// with it the parts of an overlay.
//
// # Copies
//
// A guest that was saved while it served and goes on elsewhere as a copy is turned into
// another sandbox ([Rejoin]): clock, random numbers, host name and network are the copy's
// own, and of the files in /etc just those lines change that the boot has written.
package boot
