package kernel

// Profiles of virtual hardware, named as in the monitor's configuration.
const (
	// ProfileDefault is hardware virtualisation.
	ProfileDefault = "default"
	// ProfileSoft is a host whose KVM interprets guest supervisor code.
	ProfileSoft = "soft"
)

const (
	// StockCommandLine are the words for kernels built elsewhere, libkrunfw's among
	// them: console on the first virtio console port, reset instead of hanging.
	StockCommandLine = "console=hvc0 quiet panic=-1 reboot=k tsc=reliable no_timer_check"

	// DefaultCommandLine are the words for the embedded kernel on ProfileDefault.
	// pvpanic= makes it write 1 to that I/O port when it panics; renew= is the port of
	// what makes a copy of a running guest one of its own; numdummies=0 keeps
	// the built-in dummy driver from adding an interface nobody asked for. Whoever
	// unmounts a file system or ends a network waits for RCU, which with
	// rcu_expedited is a matter of microseconds rather than of ticks.
	DefaultCommandLine = StockCommandLine + " noreplace-smp sysfs_slim pvpanic=0x505 renew=0x508 dummy.numdummies=0" +
		" rcupdate.rcu_expedited=1"

	// SoftCommandLine are the words for the embedded kernel on ProfileSoft. fastalt
	// and zeromem shorten boot by patches of ours; zeromem=1 needs all RAM above
	// 16 MiB that the monitor did not load to be zero. nokfpu, also ours, and
	// clearcpuid keep the kernel from what KVM's instruction emulator lacks or is
	// slow at; 395 is FSRS, which this kernel knows by number only.
	SoftCommandLine = DefaultCommandLine + " fastalt=1 zeromem=1 nokfpu rodata=off" +
		" clearcpuid=smap,smep,umip,popcnt,erms,fsrm,395,xsaves,xsavec,xsaveopt,bmi2,adx"

	// MaxCommandLine is how many bytes of command line, without the final NUL, the
	// embedded kernel takes; MaxInitEnv how many of its words may become environment
	// variables of init. Stock x86 kernels take 2047 and 32.
	MaxCommandLine      = 16383
	MaxInitEnv          = 256
	StockMaxCommandLine = 2047
)

// CommandLine is the start of the embedded kernel's command line for a hardware
// profile; "" means ProfileDefault, and so does a name not known here.
func CommandLine(profile string) string {
	if profile == ProfileSoft {
		return SoftCommandLine
	}
	return DefaultCommandLine
}

// CommandLine is the start of this kernel's command line for a hardware profile:
// the embedded kernel's own words, or StockCommandLine for any other.
func (i *Image) CommandLine(profile string) string {
	if i.Embedded {
		return CommandLine(profile)
	}
	return StockCommandLine
}
