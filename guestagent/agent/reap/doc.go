// Package reap collects every child of this process, adopted ones too, and signals the
// process groups that the agent started without ever hitting a number that now belongs to
// somebody else. It may import the standard library and x/sys; it must never start a
// process itself, and no other code of the process may wait for children.
package reap
