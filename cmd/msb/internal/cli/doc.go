// Package cli is the msb command line: each file turns the flags of one command into
// calls of the sdk and the results into text or JSON, as microsandbox 0.6.18 prints
// them. It may import sdk, ui, flagtype and sandboxconf; it must never do the sdk's work itself.
package cli
