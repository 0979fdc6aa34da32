// Package ref parses image references and gives them one canonical form, by which the
// cache and the database know them. It may import oci and digests only, must do no work
// when a program starts, and must never touch the network or the file system.
package ref
