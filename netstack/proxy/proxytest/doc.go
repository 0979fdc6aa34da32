// Package proxytest is a SOCKS proxy for tests, of versions 4 and 5, which leads to
// wherever the test says. It may import nothing of this module, and nothing but tests may
// import it.
package proxytest
