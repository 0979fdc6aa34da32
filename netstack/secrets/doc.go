// Package secrets replaces placeholders that a guest sends by the secrets that they stand
// for, where they are meant for, and finds them where they are not. It works on bytes and
// knows nothing of sockets. It may import policy of netstack; it must never let a secret's
// value out but to a server that it is allowed for, nor trust a byte that comes from the
// guest.
package secrets
