//go:build !amd64

package image

// embedded is empty: there is no image for this architecture yet.
const embedded = ""
