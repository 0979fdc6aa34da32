// Package sshd serves a sandbox over SSH (RFC 4251 to 4254): commands and shells with or
// without a terminal, SFTP version 3 and direct-tcpip forwarding, each mapped onto the
// guest's agent, so that the guest needs no SSH server and no network. It may import
// guestagent/client and proto and the SSH libraries, knows nothing of catalogues and the
// command line, and must never act on the host's files for a client: a client's paths and
// addresses are the guest's.
//
// Only public keys authenticate. There is no reverse forwarding, no agent and no X11
// forwarding.
package sshd
