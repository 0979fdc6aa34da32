// Package account finds users and groups of the guest in its passwd and group files, as a
// C library without name services does. It may import the standard library only; it must
// never change an identity, and must never block on a file that is not a regular one.
package account
