// Package files carries out the protocol's file operations in the guest, as root and in
// the agent's name space. It may import guestagent/proto, the standard library and x/sys;
// it must never hold more of a file in memory than one chunk, follow a link that the
// operation does not follow, or leave a handle open for a client that is gone.
//
// Error texts are part of the protocol: the operation, then the C library's text for the
// error number, as proto.ErrnoText writes it. Clients search them.
package files
