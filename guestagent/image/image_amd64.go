package image

import _ "embed"

// embedded is the image for amd64, zstd-compressed.
//
//go:embed agent-amd64.erofs.zst
var embedded string
