// Package environ composes environments of commands: lists of "K=V" in which each
// variable appears once. It may import the standard library only; it must never read or
// change the environment of this process.
package environ
