// Package guestagent is a folder: proto is the protocol between host and guest, client the
// host's library for it, agent the program that is PID 1 in the guest, and image the
// read-only disk that carries that program into the guest. This package itself must stay
// empty.
package guestagent
