package launch

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// maxConfig bounds the configuration document, bytes.
const maxConfig = 16 << 20

// Load checks the descriptors of inv, marks them close-on-exec, and reads the
// configuration to its end if it was not in the arguments. Errors wrap [ErrUsage]; nothing was written anywhere then.
func (inv *Invocation) Load() error {
	for _, d := range []struct {
		flag string
		fd   int
		kind uint32 // S_IFMT bits, 0 for any
	}{
		{"--parent-watch-fd", inv.ParentWatchFD, unix.S_IFIFO},
		{"--startup-fd", inv.StartupFD, 0},
		{"--lifecycle-lock-fd", inv.LifecycleLockFD, 0},
		{"--config-fd", inv.ConfigFD, 0},
	} {
		if d.fd < 0 {
			continue
		}
		var st unix.Stat_t
		if err := unix.Fstat(d.fd, &st); err != nil {
			return usagef("%s %d: the descriptor is not open: %v", d.flag, d.fd, err)
		}
		if d.kind != 0 && uint32(st.Mode)&unix.S_IFMT != d.kind {
			return usagef("%s %d: the descriptor is not a pipe", d.flag, d.fd)
		}
		unix.CloseOnExec(d.fd)
	}
	if inv.ConfigFD < 0 && inv.ConfigFile == "" {
		return nil
	}
	document, err := inv.readConfig()
	if err != nil {
		return err
	}
	inv.Config, err = Decode(document)
	return err
}

func (inv *Invocation) readConfig() ([]byte, error) {
	var f *os.File
	if inv.ConfigFD >= 0 {
		f = os.NewFile(uintptr(inv.ConfigFD), "configuration")
	} else {
		var err error
		if f, err = os.Open(inv.ConfigFile); err != nil {
			return nil, usagef("configuration file: %v", err)
		}
	}
	document, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	err = errors.Join(err, f.Close())
	if err != nil {
		return nil, usagef("read the configuration: %v", err)
	}
	if len(document) > maxConfig {
		return nil, usagef("the configuration is longer than %d bytes", maxConfig)
	}
	return document, nil
}
