//go:build linux

package boot

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/guestagent/agent/netconf"
	"github.com/gomsb/gomsb/guestagent/agent/renew"
	"github.com/gomsb/gomsb/guestagent/proto"
)

// Rejoin makes a guest of its own of one that is a copy of another, in which commands run.
// host is the stream to the copy's host, on which nothing was read or written yet; its
// first message says what the copy is. was is the network of the guest that was copied, nil
// if it had none; the copy's is returned. What is not vital and fails is told to log. An
// error that is not [ErrCopied] is an *[Error].
func Rejoin(host Host, was *proto.Network, log func(text string)) (*proto.Network, error) {
	m, err := next(host)
	if Copied(err) {
		return was, fmt.Errorf("%w: %w", ErrCopied, err)
	}
	r, err := renewal(m, err)
	if err != nil {
		return was, &Error{Kind: KindConfig, Err: err}
	}
	if err := renew.Apply(r); err != nil {
		return was, &Error{Kind: KindConfig, Err: err}
	}
	if err := become(r, was, log); err != nil {
		return was, err
	}
	if r.Network == nil {
		return was, nil
	}
	return r.Network, nil
}

// become gives a copy the names and addresses of its own.
func become(r *proto.Renew, was *proto.Network, log func(text string)) error {
	name := hostname()
	if err := setHostname(r.Hostname); err != nil {
		return err
	}
	if r.Network == nil {
		editEtc(edits(r, name, was), log)
		return nil
	}
	had, err := netconf.Replace(r.Network)
	switch {
	case errors.Is(err, netconf.ErrNoInterface): // somebody has renamed it, or given it away
		log("the copy goes on without a network: " + err.Error())
		editEtc(edits(r, name, was), log)
		return nil
	case err != nil:
		return fail(KindNetwork, "configure the network", err)
	}
	editEtc(edits(r, name, was), log)
	// At the end, so that whoever loses a connection can make another at once.
	if err := netconf.Sever(had, r.Network); err != nil {
		log("old connections are left to time out: " + err.Error())
	}
	return nil
}

// hostname is the name that the kernel knows, "" if there is none.
func hostname() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Nodename[:])
}
