// Package tree models a root file system in memory: names, attributes and where the
// file content lies, never the content itself. It is the meeting point of the tar
// reader (rootfs/layer), the merge of layers and the EROFS writer. It imports only
// the standard library and must never touch the host file system: a hostile path or
// link can only ever lead to another place of the same tree. What ext4 and EROFS number
// alike, types of entries and prefixes of attributes, stands here, too.
package tree
