package launch

// UnbornName is a file in the directory of a sandbox that was to go on from a checkpoint
// (see [Invocation]) and has not come up. Its controller makes it with the directory, and
// the runtime removes it when the guest serves, before it answers clients: a sandbox that
// has ended and has it is nothing that could be started.
const UnbornName = ".unborn"
