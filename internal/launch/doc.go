// Package launch is the boundary between a controller (SDK or CLI) and the runtime
// process of one sandbox: the launch configuration and its JSON, the arguments and
// inherited descriptors of `msb sandbox`, the paths of sockets and locks, the boot error
// file, and Spawn, which starts a runtime. It may import guestagent/proto, netstack/policy and the
// standard library with x/sys; it must never open a database, talk to a guest, or know
// about commands that people type.
//
// # Dialects
//
// The runtime's command line changed between releases of microsandbox. [Parse] tells the
// dialect from the flags and hands the arguments to the parser of that dialect, each of
// which fills the same [Invocation]. The 0.6.18 dialect carries everything but a dozen
// flags in one JSON document ([Config]) on an inherited descriptor. That of 0.5.7 carries
// everything in arguments: the guest's part of it as an environment in which the variables
// MSB_* mean something.
//
// # Descriptors of the 0.6.18 dialect
//
//	96  the configuration, read to its end and closed
//	97  read end of the parent's watchdog pipe (attached sandboxes)
//	98  write end of the start-up pipe (detached sandboxes; else it is stdout)
//	99  the lifecycle lock, an open flock that lives as long as the process
//
// Any other descriptor that the runtime inherits is not its business: it is there because
// a controller keeps a disk image locked with it ([LockDisk]). The runtime locks what its
// controller did not, so that no two machines write one image whoever starts them.
package launch
