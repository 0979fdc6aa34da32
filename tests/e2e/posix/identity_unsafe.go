//go:build linux

package main

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// identity is whom a call is made for. The zero value is root.
type identity struct {
	uid, gid int
	groups   []uint32
}

// parseIdentity reads USER[:GROUP[,GROUP...]].
func parseIdentity(text string) (identity, error) {
	user, groups, given := strings.Cut(text, ":")
	uid, err := strconv.Atoi(user)
	who := identity{uid: uid, gid: uid}
	for i, g := range strings.Split(groups, ",") {
		if !given || err != nil {
			break
		}
		var gid int
		gid, err = strconv.Atoi(g)
		if i == 0 {
			who.gid = gid
		} else {
			who.groups = append(who.groups, uint32(gid))
		}
	}
	return who, err
}

// act runs f as far as this thread's effective user goes. The thread must be the caller's
// own, and root's.
func (who identity) act(f func()) error {
	if who.uid == 0 {
		f()
		return nil
	}
	if err := who.become(); err != nil {
		return err
	}
	defer func() {
		if err := (identity{}).become(); err != nil {
			panic(err) // the rest would be nonsense
		}
	}()
	f()
	return nil
}

// become changes this thread alone: the system calls of package syscall change all.
func (who identity) become() error {
	keep := ^uintptr(0)
	set := func(number, a, b, c uintptr) error {
		if _, _, errno := syscall.RawSyscall(number, a, b, c); errno != 0 {
			return fmt.Errorf("become user %d: %w", who.uid, errno)
		}
		return nil
	}
	setGroups := func() error {
		var list unsafe.Pointer
		if len(who.groups) > 0 {
			list = unsafe.Pointer(&who.groups[0])
		}
		err := set(unix.SYS_SETGROUPS, uintptr(len(who.groups)), uintptr(list), 0)
		runtime.KeepAlive(who.groups)
		return err
	}
	if who.uid == 0 { // first the right to do the rest
		if err := set(unix.SYS_SETRESUID, keep, 0, keep); err != nil {
			return err
		}
	}
	if err := setGroups(); err != nil {
		return err
	}
	if err := set(unix.SYS_SETRESGID, keep, uintptr(who.gid), keep); err != nil {
		return err
	}
	return set(unix.SYS_SETRESUID, keep, uintptr(who.uid), keep)
}
