//go:build linux

package spawn

import (
	"errors"

	"golang.org/x/sys/unix"
)

// restrict applies the restricted profile to the calling thread: no new privileges, no
// ambient capabilities, no CAP_SYS_ADMIN, now or ever again. Kernels that know no ambient
// or bounding set say EINVAL.
func restrict() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
	if err != nil && !errors.Is(err, unix.EINVAL) {
		return err
	}
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&head, &data[0]); err != nil {
		return err
	}
	const bit = 1 << unix.CAP_SYS_ADMIN
	had := data[0].Permitted&bit != 0
	// The bounding set first: dropping from it needs CAP_SETPCAP only, but the order
	// makes a failure visible while nothing is lost yet.
	err = unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_SYS_ADMIN, 0, 0, 0)
	if err != nil && !errors.Is(err, unix.EINVAL) && (had || !errors.Is(err, unix.EPERM)) {
		return err
	}
	data[0].Effective &^= bit
	data[0].Permitted &^= bit
	data[0].Inheritable &^= bit
	return unix.Capset(&head, &data[0])
}
