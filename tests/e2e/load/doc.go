//go:build linux

// Command load keeps a guest busy that is to be copied: it writes files, has streams to and
// from its host, and uses every processor. It is a program for a guest, which imports the
// agent's vsock connections only.
package main
