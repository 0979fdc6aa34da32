package launch

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// guestEnv is the environment that 0.5.7 gives its guest agent: variables that begin with
// MSB_ configure the guest, the others are for its commands. The last of a name counts.
type guestEnv struct{ vars []proto.EnvVar }

func (e *guestEnv) add(s string) error {
	key, value, ok := strings.Cut(s, "=")
	if !ok || key == "" || strings.ContainsRune(s, 0) {
		return errors.New("want KEY=VALUE")
	}
	e.vars = slices.DeleteFunc(e.vars, func(v proto.EnvVar) bool { return v.Key == key })
	e.vars = append(e.vars, proto.EnvVar{Key: key, Value: value})
	return nil
}

// take removes a variable and returns its value without the space around it; empty is as
// good as not there.
func (e *guestEnv) take(key string) string {
	i := slices.IndexFunc(e.vars, func(v proto.EnvVar) bool { return v.Key == key })
	if i < 0 {
		return ""
	}
	value := strings.TrimSpace(e.vars[i].Value)
	e.vars = slices.Delete(e.vars, i, i+1)
	return value
}

// unitSeparator parts what is in one variable.
const unitSeparator = "\x1f"

// bootstrap moves everything into b. Errors name the variable.
func (e *guestEnv) bootstrap(b *proto.Bootstrap) error {
	b.Hostname, b.User = e.take("MSB_HOSTNAME"), e.take("MSB_USER")
	b.SecurityProfile = proto.SecurityProfile(e.take("MSB_SECURITY_PROFILE"))
	if err := e.handoff(b); err != nil {
		return err
	}
	for _, v := range []struct {
		key, separator string
		parse          func(*proto.Bootstrap, string) error
	}{
		{"MSB_BLOCK_ROOT", "", parseBlockRoot},
		{"MSB_DIR_MOUNTS", ";", parseDirMount},
		{"MSB_FILE_MOUNTS", ";", parseFileMount},
		{"MSB_DISK_MOUNTS", ";", parseDiskMount},
		{"MSB_TMPFS", ";", parseTmpfs},
		{"MSB_RLIMITS", ";", parseRlimit},
	} {
		value := e.take(v.key)
		if value == "" {
			continue
		}
		entries := []string{value}
		if v.separator != "" {
			entries = strings.Split(value, v.separator)
		}
		for _, entry := range entries {
			if err := v.parse(b, strings.TrimSpace(entry)); err != nil {
				return fmt.Errorf("%s: %q: %w", v.key, entry, err)
			}
		}
	}
	b.DefaultEnv = e.vars
	return nil
}

// handoff reads who takes over as PID 1.
func (e *guestEnv) handoff(b *proto.Bootstrap) error {
	cmd, args, env := e.take("MSB_HANDOFF_INIT"), e.take("MSB_HANDOFF_INIT_ARGS"), e.take("MSB_HANDOFF_INIT_ENV")
	if cmd == "" {
		return nil
	}
	b.HandoffInit = &proto.HandoffInit{Cmd: cmd}
	if args != "" {
		b.HandoffInit.Args = strings.Split(args, unitSeparator)
	}
	if env == "" {
		return nil
	}
	var vars guestEnv
	for _, s := range strings.Split(env, unitSeparator) {
		if err := vars.add(s); err != nil {
			return fmt.Errorf("MSB_HANDOFF_INIT_ENV: %q: %w", s, err)
		}
	}
	b.HandoffInit.Env = vars.vars
	return nil
}

// mountWords are the options of one entry: flags, and keys with values.
type mountWords struct {
	flags  proto.MountFlags
	values map[string]string
}

// parseWords reads "ro,key=value,..."; only the keys in allowed may have a value. rw says
// what is so anyhow.
func parseWords(list string, allowed ...string) (mountWords, error) {
	w := mountWords{values: make(map[string]string)}
	if list == "" {
		return w, nil
	}
	seen := make(map[string]bool)
	for word := range strings.SplitSeq(list, ",") {
		key, value, hasValue := strings.Cut(word, "=")
		class := key
		if key == "rw" {
			class = "ro"
		}
		if seen[class] {
			return w, fmt.Errorf("option %q is given twice", key)
		}
		seen[class] = true
		flag, known := map[string]*bool{
			"ro": &w.flags.ReadOnly, "noexec": &w.flags.NoExec, "nosuid": &w.flags.NoSUID, "nodev": &w.flags.NoDev, "rw": new(bool),
		}[key]
		switch {
		case known && !hasValue:
			*flag = true
		case hasValue && slices.Contains(allowed, key):
			w.values[key] = value
		default:
			return w, fmt.Errorf("option %q is unknown", word)
		}
	}
	return w, nil
}

// fields cuts s at its first n-1 colons, the rest being options; the first n-1 fields must
// be there.
func fields(s string, n int) ([]string, error) {
	parts := strings.SplitN(s, ":", n)
	if len(parts) == n-1 {
		parts = append(parts, "")
	}
	if len(parts) != n || slices.Contains(parts[:n-1], "") {
		return nil, fmt.Errorf("want %d fields with colons between them, and options", n-1)
	}
	return parts, nil
}

func parseBlockRoot(b *proto.Bootstrap, s string) error {
	v := make(map[string]string)
	for pair := range strings.SplitSeq(s, ",") {
		key, value, ok := strings.Cut(pair, "=")
		if _, twice := v[key]; !ok || twice {
			return fmt.Errorf("want key=value once, got %q", pair)
		}
		v[key] = value
	}
	root := &proto.BlockRoot{Kind: proto.BlockRootKind(v["kind"]), Device: v["device"], FSType: v["fstype"], Lower: v["lower"]}
	if v["upper"] != "" {
		root.Upper = &proto.Upper{Kind: proto.UpperDevice, Device: v["upper"], FSType: v["upper_fstype"]}
	}
	for _, key := range []string{"kind", "device", "fstype", "lower", "upper", "upper_fstype"} {
		delete(v, key)
	}
	if len(v) != 0 {
		return errors.New("want kind, device and fstype, or kind, lower, upper and upper_fstype")
	}
	b.BlockRoot = root
	return nil
}

func parseDirMount(b *proto.Bootstrap, s string) error {
	f, err := fields(s, 3)
	if err != nil {
		return err
	}
	w, err := parseWords(f[2])
	b.DirMounts = append(b.DirMounts, proto.DirMount{Tag: f[0], GuestPath: f[1], Flags: w.flags})
	return err
}

func parseFileMount(b *proto.Bootstrap, s string) error {
	f, err := fields(s, 4)
	if err != nil {
		return err
	}
	w, err := parseWords(f[3])
	b.FileMounts = append(b.FileMounts, proto.FileMount{Tag: f[0], Filename: f[1], GuestPath: f[2], Flags: w.flags})
	return err
}

func parseDiskMount(b *proto.Bootstrap, s string) error {
	f, err := fields(s, 3)
	if err != nil {
		return err
	}
	w, err := parseWords(f[2], "fstype")
	b.DiskMounts = append(b.DiskMounts, proto.DiskMount{ID: f[0], GuestPath: f[1], FSType: w.values["fstype"], Flags: w.flags})
	return err
}

func parseTmpfs(b *proto.Bootstrap, s string) error {
	f, err := fields(s, 2)
	if err != nil {
		return err
	}
	w, err := parseWords(f[1], "size", "mode")
	if err != nil {
		return err
	}
	m := proto.TmpfsMount{Path: f[0], Flags: w.flags}
	for _, v := range []struct {
		key  string
		base int
		dst  **uint32
	}{{"size", 10, &m.SizeMiB}, {"mode", 8, &m.Mode}} {
		text, ok := w.values[v.key]
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(text, v.base, 32)
		if err != nil {
			return fmt.Errorf("%s=%s: want a number in base %d", v.key, text, v.base)
		}
		*v.dst = new(uint32)
		**v.dst = uint32(n)
	}
	b.TmpfsMounts = append(b.TmpfsMounts, m)
	return nil
}

// parseRlimit reads "name=soft:hard"; without the hard limit it is the soft one.
func parseRlimit(b *proto.Bootstrap, s string) error {
	name, limits, _ := strings.Cut(s, "=")
	soft, hard, both := strings.Cut(limits, ":")
	if !both {
		hard = soft
	}
	low, err := strconv.ParseUint(soft, 10, 64)
	high, err2 := strconv.ParseUint(hard, 10, 64)
	if err != nil || err2 != nil {
		return errors.New("want name=soft:hard")
	}
	b.Rlimits = append(b.Rlimits, proto.Rlimit{Resource: name, Soft: low, Hard: high})
	return nil
}
