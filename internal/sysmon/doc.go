// Package sysmon makes the Go runtime's monitor thread cost less in a process that idles
// often and briefly works. The monitor looks every 20 µs for goroutines that block, for the
// first milliseconds of any work, and every look is a wake-up of the host's processor and,
// in a guest, an exit. A larger timer slack (prctl(2), PR_SET_TIMERSLACK) makes that every
// few milliseconds, but is inherited by what the monitor starts. Or it runs only when nobody
// else wants to (sched(7), SCHED_IDLE). It imports nothing of this module.
package sysmon
