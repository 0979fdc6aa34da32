// Package template keeps boot templates: guests that have booted and wait for their host,
// saved once and copied for every sandbox of the same [Shape]. A copy goes on within
// milliseconds where a boot takes a second.
//
// A template is made by a process of its own, of a machine whose disks and shares are
// parked and whose network card is plugged into nothing: it has never seen anything of a
// user. Each is a directory of the cache, named by the digest of its shape; whatever
// changes what a guest sees (kernel, agent, this program, the host's processor) makes
// another shape. Which of its pages a copy needs is seen with the first one, and kept beside it
// as numbers, without content. The package may import vmm and its devices, snapshot/format,
// snapshot/sparse, kernel, guestagent/image, the locks of internal/filelock, the standard
// library and golang.org/x/sys; it must never put anything of a sandbox into a shape, and
// never trust a directory that others may write to.
package template
