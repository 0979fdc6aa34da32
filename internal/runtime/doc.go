// Package runtime is the process of one sandbox, `msb sandbox`: it builds and boots the
// machine that a launch configuration describes, relays its agent to clients, keeps its
// logs, heartbeat, metrics and database rows, and ends when the guest, a client, a timer,
// a signal or the parent wants it to. It may import launch, store, placement, sysmon,
// checkpoint, template and snapshot/format, the machine monitor, the kernel and agent bundles
// and the agent protocol with its client; it must never parse what people type, pull an
// image, or make decisions that belong to a controller.
//
// # Order
//
// A start goes: arguments (exit 2 if they are wrong) and lifecycle lock, the start-up
// line, standard output to /dev/null and standard error to runtime.log, directories,
// socket, exec.log, run row and machine (at the same time), metrics slot, and only then
// the guest. The socket accepts once the guest is ready. An end goes: machine, socket,
// rows, directory of an ephemeral sandbox, last line of exec.log, metrics slot. A boot
// that fails leaves boot-error.json and exit code 1.
//
// What a configuration asks for and this runtime cannot do is refused, but for wishes
// about speed, which are ignored with a warning: write-back budgets.
// What can be changed while a sandbox runs is asked for on a control socket beside the
// agent's: secrets, processors, memory, pauses. Clients of old releases find that socket
// only if there is something of theirs to change; without, they take the sandbox for one
// that cannot be changed.
//
// # How it ends
//
//	what                               reason               exit  sandbox
//	the guest powers off               Completed            0     Stopped
//	a client sends core.shutdown       ShutdownRequested    0     Stopped
//	SIGTERM, watchdog pipe closed      Signal               0     Stopped
//	SIGUSR1                            DrainRequested       0     Stopped
//	idle for too long                  IdleTimeout          0     Stopped
//	alive for too long                 MaxDurationExceeded  0     Stopped
//	the start-up command fails         Failed               1     Stopped
//	the guest resets without goodbye   Failed               1     Crashed
//	the guest does not become ready    AgentUnresponsive    1     Stopped
//	the machine cannot be built        InternalError        1     Stopped
//
// All but the last four ask the guest first and end the machine when it does not go
// within 5 s (8 s when another program is its PID 1). As long as it writes to its disks it
// gets two seconds more, for a minute at most. MSB_SHUTDOWN_FLUSH_TIMEOUT_MS overrides all
// that. A second SIGTERM ends it at once. SIGINT stops a detached sandbox like
// SIGTERM; an attached one ignores it, because a terminal sends it to the parent as well,
// which decides what it means.
//
// # Kernel
//
// The guest kernel is, first hit wins: the file that --kernel names, the one that the
// environment variable MSB_KERNEL names, libkrunfw_path if its file name does not begin
// with "libkrunfw.so." or MSB_GOMSB_KERNEL=bundle is set, and else the embedded kernel.
// Official SDKs always pass the path of their libkrunfw bundle, so that name alone does
// not express a wish; the embedded kernel is the one that is tested and fast.
//
// With it, a guest is a copy of one that has booted, if the cache has a template of its
// shape (package template), and otherwise a template is made in the background once it has
// booted, by a process of its own: `msb sandbox template`. MSB_GOMSB_TEMPLATES=off
// switches both off.
//
// # Copies of running sandboxes
//
// The operation "checkpoint" of the control socket saves the machine with its disks into a
// directory (package checkpoint): the guest stands still while its state, what it wrote to
// its memory and its disks are copied, and runs on while that is made durable. A second line
// with the operation "cancel" withdraws it: the answer comes once nothing is left.
//
// With "passing" it is for copies that are made at once: not durable, and what the machine was
// restored from is referred to. A machine of which copies are made again, and that has much of
// its own, is saved whole into the folder "bases" of the sandbox once, and has that behind its
// memory from then on, so that later checkpoints refer to it. Bases go when the run ends.
//
// With --restore, a runtime builds the same machine and goes on from such a directory instead
// of booting; the guest agent finds its stream to the host reset, connects anew and hears who
// it is now. The disks are the sandbox's own: the controller has put them there.
package runtime
