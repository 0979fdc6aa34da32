// Command msb runs untrusted code in microVM sandboxes that start from OCI images. It is
// compatible with the msb of microsandbox 0.6.18, also as the sandbox runtime that
// official SDKs start through MSB_PATH ("msb sandbox ...").
//
// It may import sdk, internal/runtime and its own internal packages; all work is theirs.
package main
