//go:build !amd64

package kernel

// embedded is empty: there is no embedded kernel for this architecture yet.
const embedded = ""
