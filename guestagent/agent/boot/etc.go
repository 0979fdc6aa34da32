//go:build linux

package boot

import (
	"errors"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/guestagent/agent/environ"
	"github.com/gomsb/gomsb/guestagent/proto"
)

// writeEtc writes the files that name the sandbox and its network.
func writeEtc(b *proto.Bootstrap) error {
	if err := writeFile("/etc/hosts", hosts(b)); err != nil {
		return err
	}
	if b.Hostname != "" {
		if err := writeFile("/etc/hostname", b.Hostname+"\n"); err != nil {
			return err
		}
	}
	if text := resolvConf(b.Network); text != "" {
		return writeFile("/etc/resolv.conf", text)
	}
	return nil
}

// hosts is the text of /etc/hosts.
func hosts(b *proto.Bootstrap) string {
	var t strings.Builder
	name := ""
	if b.Hostname != "" {
		name = " " + b.Hostname
	}
	t.WriteString("127.0.0.1\tlocalhost" + name + "\n")
	t.WriteString("::1\tlocalhost ip6-localhost ip6-loopback" + name + "\n")
	t.WriteString(aliases(b.Network, b.HostAlias))
	t.WriteString("fe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n")
	return t.String()
}

// aliases are the lines of /etc/hosts that name the gateway.
func aliases(n *proto.Network, name string) (text string) {
	if n == nil || name == "" {
		return ""
	}
	for _, a := range [...]*proto.Address{n.IPv4, n.IPv6} {
		if a != nil {
			text += a.Gateway.String() + "\t" + name + "\n"
		}
	}
	return text
}

// resolvConf is the text of /etc/resolv.conf; "" keeps the image's.
func resolvConf(n *proto.Network) string {
	if n == nil {
		return ""
	}
	text := ""
	for _, a := range [...]*proto.Address{n.IPv4, n.IPv6} {
		if a != nil && a.DNS != nil {
			text += "nameserver " + a.DNS.String() + "\n"
		}
	}
	return text
}

const etcMode = 0o644

// writeFile replaces a file's content. A link to nowhere, which images have in the place
// of resolv.conf, becomes a file.
func writeFile(name, text string) error {
	const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_TRUNC | unix.O_CLOEXEC | unix.O_NONBLOCK
	fd, err := unix.Open(name, flags, etcMode)
	if errors.Is(err, unix.ENOENT) {
		if err := os.MkdirAll(path.Dir(name), 0o755); err != nil {
			return err
		}
		if err := unix.Unlink(name); err != nil && !errors.Is(err, unix.ENOENT) {
			return &os.PathError{Op: "replace", Path: name, Err: err}
		}
		fd, err = unix.Open(name, flags, etcMode)
	}
	if err != nil {
		return &os.PathError{Op: "write", Path: name, Err: err}
	}
	_, err = unix.Write(fd, []byte(text))
	if err == nil {
		err = unix.Fchmod(fd, etcMode)
	}
	if err = errors.Join(err, unix.Close(fd)); err != nil {
		return &os.PathError{Op: "write", Path: name, Err: err}
	}
	return nil
}

// tmpMode is that of directories which everybody may write to.
const tmpMode = 0o1777

// ensureTmp makes sure that there is room for temporary files.
func ensureTmp() error {
	for _, dir := range [...]string{"/tmp", "/var/tmp"} {
		var st unix.Stat_t
		err := unix.Stat(dir, &st)
		if errors.Is(err, unix.ENOENT) {
			if err = os.MkdirAll(dir, 0o755); err == nil {
				err = unix.Stat(dir, &st)
			}
		}
		if err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			err = unix.ENOTDIR
		}
		if err == nil && st.Mode&0o7777 != tmpMode {
			err = unix.Chmod(dir, tmpMode)
		}
		if err != nil {
			return &os.PathError{Op: "prepare", Path: dir, Err: err}
		}
	}
	return nil
}

// kernelEnv is what the kernel gives its init; commands see it too.
var kernelEnv = [...]string{"HOME=/", "TERM=linux"}

// environment is what commands inherit.
func environment(vars []proto.EnvVar) []string {
	env := append([]string(nil), kernelEnv[:]...)
	for _, v := range vars {
		env = environ.Set(env, v.Key+"="+v.Value)
	}
	path, ok := environ.Lookup(env, "PATH")
	if !ok {
		path = environ.DefaultPath
	}
	return environ.Set(env, "PATH="+environ.WithScripts(path))
}
