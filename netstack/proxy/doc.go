// Package proxy opens connections through a SOCKS proxy: TCP by versions 4 and 5, and
// datagrams by version 5. It may import reserve of netstack. It must never
// resolve a name, never reach a destination around its proxy, and never put a password
// into an error.
package proxy
