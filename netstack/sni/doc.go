// Package sni reads the server name out of the first bytes of a TLS connection (RFC 8446
// §4.1.2, RFC 6066 §3). It may import nothing of the project; every byte is hostile.
package sni
