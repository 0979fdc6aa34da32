// Package unpacked keeps files that are unpacked from this binary once and shared by all
// processes of a user: the guest kernel and the guest agent. It imports the standard
// library and golang.org/x/sys only and must know nothing of what the files hold.
package unpacked
