package kernel

import _ "embed"

// embedded is the guest kernel for amd64, zstd-compressed. It is a separate program
// under GPL-2.0 (see NOTICE at the top of the repository), carried as data.
//
//go:embed vmlinux-amd64.zst
var embedded string
