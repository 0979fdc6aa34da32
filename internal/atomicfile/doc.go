// Package atomicfile replaces files wholly or not at all, and durably. It imports the
// standard library only and must know nothing of what the files hold.
package atomicfile
