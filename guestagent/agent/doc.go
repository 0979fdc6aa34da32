// Package agent is the guest agent: PID 1 of a microVM. It connects to the host, boots the
// sandbox, hands PID 1 over to another init if it is told to, serves the host's requests,
// also those of another host if the machine is a copy of one that was saved meanwhile, and
// in the end puts the file systems in order and ends the machine. It may import the
// packages below it, guestagent/proto, internal/sysmon, the standard library and x/sys; it
// must never import the machine monitor, image or launch packages, nor anything that works
// at init time: every guest pays for it at every boot.
//
// The process runs in one of three roles, which [Main] tells apart: PID 1; the helper
// that becomes a command (package spawn); and the heir, a copy that goes on serving after
// another init took PID 1 over.
package agent
