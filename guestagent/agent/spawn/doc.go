// Package spawn starts the commands that clients ask for: it finds the program, switches
// the user, applies limits and the security profile, and says precisely why a command did
// not start. It may import guestagent/proto, the account package, internal/sysmon, the
// standard library and x/sys; it must never wait for a child, nor keep one.
//
// # Two ways
//
// What a fork by the Go runtime can do between fork and exec (session, controlling
// terminal, user and groups, working directory) is done by it. Everything else, limits,
// capabilities and a working directory that only root may enter, is done by a copy of
// this program: the helper gets the plan through a pipe, applies it to itself in the
// order of the protocol (directory, profile, groups and user, limits), reports the first
// failure with its stage through another pipe, or becomes the command.
package spawn
