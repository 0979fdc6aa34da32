//go:build linux

package boot

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// edit changes what the boot has written to a file of /etc, and nothing else: by now it may
// be a user's.
type edit struct {
	file string
	text func(string) string
}

// edits are what follows from r in a guest whose name and network were others.
func edits(r *proto.Renew, name string, was *proto.Network) []edit {
	return []edit{
		{"/etc/hosts", func(text string) string {
			text = replaceLines(text, aliases(r.Network, r.HostAlias), func(f []string) bool {
				return len(f) == 2 && f[1] == r.HostAlias
			})
			return renameLoopback(text, name, r.Hostname)
		}},
		{"/etc/hostname", func(text string) string {
			if r.Hostname == "" {
				return text
			}
			return replaceLines(text, r.Hostname+"\n", func(f []string) bool { return len(f) == 1 && f[0] == name })
		}},
		{"/etc/resolv.conf", func(text string) string {
			return replaceLines(text, resolvConf(r.Network), func(f []string) bool {
				return len(f) == 2 && f[0] == "nameserver" && strings.Contains(resolvConf(was), f[0]+" "+f[1]+"\n")
			})
		}},
	}
}

// replaceLines puts fresh in the place of the lines whose fields are old; "" changes nothing.
func replaceLines(text, fresh string, old func(fields []string) bool) string {
	if fresh == "" {
		return text
	}
	var b strings.Builder
	for line := range strings.Lines(text) {
		if !old(strings.Fields(line)) {
			b.WriteString(line)
			continue
		}
		b.WriteString(fresh)
		fresh = "" // once
	}
	return b.String()
}

// renameLoopback gives the loopback addresses in a table of hosts another name.
func renameLoopback(text, from, to string) string {
	if from == "" || to == "" || from == to || from == "localhost" {
		return text
	}
	var b strings.Builder
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) > 1 && slices.Contains(f[1:], from) {
			if a, err := netip.ParseAddr(f[0]); err == nil && a.IsLoopback() {
				for i := 1; i < len(f); i++ {
					if f[i] == from {
						f[i] = to
					}
				}
				line = f[0] + "\t" + strings.Join(f[1:], " ") + "\n"
			}
		}
		b.WriteString(line)
	}
	return b.String()
}

// etcLimit is how long all edits may take: a file may be on a file system that a process
// of the guest serves, or should.
const etcLimit = 2 * time.Second

// editEtc carries the edits out, and says what did not work. Nothing of it is vital.
func editEtc(all []edit, log func(text string)) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, e := range all {
			if err := e.apply(); err != nil {
				log(err.Error())
			}
		}
	}()
	select {
	case <-done:
	case <-time.After(etcLimit):
		log("the files in /etc take too long to edit")
	}
}

// maxEtc is the largest file that is edited, bytes.
const maxEtc = 1 << 20

// apply edits the file, if there is one.
func (e edit) apply() error {
	fd, err := unix.Open(e.file, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err == nil {
		err = errors.Join(e.rewrite(fd), unix.Close(fd))
	}
	if err != nil {
		return &os.PathError{Op: "edit", Path: e.file, Err: err}
	}
	return nil
}

func (e edit) rewrite(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || uint64(st.Size) > maxEtc {
		return fmt.Errorf("not an ordinary file of at most %d bytes", maxEtc)
	}
	buf := make([]byte, st.Size)
	n, err := unix.Pread(fd, buf, 0)
	if err != nil {
		return err
	}
	old := string(buf[:n])
	text := e.text(old)
	if text == old {
		return nil
	}
	if n, err = unix.Pwrite(fd, []byte(text), 0); err != nil {
		return err
	}
	if n < len(text) {
		return io.ErrShortWrite
	}
	return unix.Ftruncate(fd, int64(n))
}
