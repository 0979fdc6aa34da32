// Package reserve keeps descriptors of the process free for what is not the guest's
// network: the agent's clients, files, the machine itself. A guest can have any number of
// sockets opened, so that each is refused that would be among the last. It imports nothing
// of gomsb and must never close what it did not open.
package reserve
