package flagtype

import (
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"time"
)

// MiB parses N, NM or NG (any case) into MiB. A bare number is MiB; G may have decimals.
func MiB(s string) (uint32, error) {
	num, unit := s, "m"
	if n := len(s); n > 0 && strings.ContainsRune("mMgG", rune(s[n-1])) {
		num, unit = s[:n-1], strings.ToLower(s[n-1:])
	}
	if unit == "g" {
		f, err := strconv.ParseFloat(num, 64)
		if err != nil || strings.Trim(num, "0123456789.") != "" {
			return 0, fmt.Errorf("invalid size %q: use a number with M or G, such as 512M or 1.5G", s)
		}
		mib := math.Round(f * 1024)
		if mib > math.MaxUint32 {
			return 0, fmt.Errorf("size %q is too large", s)
		}
		return uint32(mib), nil
	}
	n, err := strconv.ParseUint(num, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("invalid size %q: use a number with M or G, such as 512M or 1.5G", s)
	}
	return uint32(n), nil
}

// Seconds parses N, Ns, Nm or Nh; a bare number is seconds.
func Seconds(s string) (time.Duration, error) {
	return duration(s, map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour})
}

// SubSeconds is Seconds with Nms too.
func SubSeconds(s string) (time.Duration, error) {
	return duration(s, map[string]time.Duration{"ms": time.Millisecond, "s": time.Second, "m": time.Minute, "h": time.Hour})
}

func duration(s string, units map[string]time.Duration) (time.Duration, error) {
	i := len(s)
	for i > 0 && (s[i-1] < '0' || s[i-1] > '9') {
		i--
	}
	unit := time.Second
	if i < len(s) {
		u, ok := units[s[i:]]
		if !ok {
			return 0, fmt.Errorf("invalid digit found in string")
		}
		unit = u
	}
	n, err := strconv.ParseUint(s[:i], 10, 63)
	if err != nil {
		return 0, fmt.Errorf("invalid digit found in string")
	}
	if n > uint64(math.MaxInt64/int64(unit)) {
		return 0, fmt.Errorf("duration %q is too long", s)
	}
	return time.Duration(n) * unit, nil
}

// LogTime parses RFC 3339 or Ns, Nm, Nh, Nd before now.
func LogTime(s string, now time.Time) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	d, err := duration(s, map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour})
	if err != nil || s == "" || s[len(s)-1] <= '9' {
		return time.Time{}, fmt.Errorf("could not parse time %q (expected RFC 3339 or `5m` etc.)", s)
	}
	return now.Add(-d), nil
}

// Env parses KEY=VALUE, or KEY, which takes the value from this process.
func Env(s string) (key, value string, err error) {
	key, value, ok := strings.Cut(s, "=")
	switch {
	case key == "":
		return "", "", fmt.Errorf("environment variable %q has no name", s)
	case ok:
		return key, value, nil
	}
	value, ok = os.LookupEnv(key)
	if !ok {
		return "", "", fmt.Errorf("environment variable %q is not set on the host; use %s=VALUE", key, key)
	}
	return key, value, nil
}

// Label parses KEY=VALUE or KEY.
func Label(s string) (key, value string, err error) {
	key, value, _ = strings.Cut(s, "=")
	if key == "" {
		return "", "", fmt.Errorf("label %q has no key", s)
	}
	return key, value, nil
}

// Rlimit parses RESOURCE=SOFT[:HARD].
func Rlimit(s string) (resource string, soft, hard uint64, err error) {
	resource, limits, ok := strings.Cut(s, "=")
	if !ok || resource == "" {
		return "", 0, 0, fmt.Errorf("invalid limit %q: use RESOURCE=SOFT[:HARD]", s)
	}
	first, second, both := strings.Cut(limits, ":")
	if soft, err = strconv.ParseUint(first, 10, 64); err != nil {
		return "", 0, 0, fmt.Errorf("invalid limit %q: %s is not a number", s, first)
	}
	if hard = soft; both {
		if hard, err = strconv.ParseUint(second, 10, 64); err != nil {
			return "", 0, 0, fmt.Errorf("invalid limit %q: %s is not a number", s, second)
		}
	}
	if soft > hard {
		return "", 0, 0, fmt.Errorf("invalid limit %q: the soft limit exceeds the hard one", s)
	}
	return strings.ToLower(resource), soft, hard, nil
}

// MountOptions are the options of a mount flag, comma separated.
type MountOptions struct {
	Readonly, Noexec, Nosuid, Nodev bool
	SizeMiB                         uint32
	Format, Fstype                  string // of a disk image
	FollowRootSymlinks              bool   // this and the following of a bind
	StatVirt, HostPerms             string
	QuotaMiB                        uint32
}

// IsPath reports that the source of a volume is a path of the host, not a name.
func IsPath(source string) bool {
	return source == "." || source == ".." || strings.HasPrefix(source, "/") || strings.HasPrefix(source, "./") || strings.HasPrefix(source, "../")
}

// Mount splits SOURCE:GUEST[:OPTS] of a disk image at the first colon that a slash
// follows, and Bind that of a directory or file.
func Mount(s string) (source, guest string, opts MountOptions, err error) { return mount(s, "mount") }

// Bind is Mount of a directory or file.
func Bind(s string) (source, guest string, opts MountOptions, err error) { return mount(s, "bind") }

func mount(s, kind string) (source, guest string, opts MountOptions, err error) {
	i := strings.Index(s, ":/")
	if i <= 0 {
		return "", "", opts, fmt.Errorf("invalid mount %q: use SOURCE:/GUEST[:OPTIONS]", s)
	}
	source = s[:i]
	guest, rest, more := strings.Cut(s[i+1:], ":")
	if !more && strings.Contains(guest, ",") {
		p, o, _ := strings.Cut(guest, ",")
		return "", "", opts, fmt.Errorf("invalid mount %q: options follow a third colon; did you mean %s:%s:%s?", s, source, p, o)
	}
	opts, err = parseOptions(rest, kind, s)
	return source, guest, opts, err
}

// Tmpfs parses PATH, PATH:SIZE, PATH:OPTS or PATH:SIZE:OPTS.
func Tmpfs(s string) (guest string, opts MountOptions, err error) {
	guest, rest, more := strings.Cut(s, ":")
	if !strings.HasPrefix(guest, "/") {
		return "", opts, fmt.Errorf("invalid tmpfs %q: the path must be absolute", s)
	}
	if !more {
		return guest, opts, nil
	}
	first, second, both := strings.Cut(rest, ":")
	if mib, sizeErr := MiB(first); sizeErr == nil {
		if both {
			opts, err = parseOptions(second, "tmpfs", s)
		}
		opts.SizeMiB = mib
		return guest, opts, err
	}
	if both {
		return "", opts, fmt.Errorf("invalid tmpfs %q: %q is not a size", s, first)
	}
	opts, err = parseOptions(first, "tmpfs", s)
	return guest, opts, err
}

func parseOptions(list, kind, whole string) (o MountOptions, err error) {
	seen := map[string]bool{}
	for _, opt := range strings.Split(list, ",") {
		if opt == "" {
			continue
		}
		key, value, keyed := strings.Cut(opt, "=")
		name := key
		if key == "rw" {
			name = "ro"
		}
		if seen[name] {
			return o, fmt.Errorf("invalid %s %q: option %s is given twice", kind, whole, key)
		}
		seen[name] = true
		switch {
		case !keyed && key == "ro":
			o.Readonly = true
		case !keyed && key == "rw":
		case !keyed && key == "noexec":
			o.Noexec = true
		case !keyed && key == "nosuid":
			o.Nosuid = true
		case !keyed && key == "nodev":
			o.Nodev = true
		case keyed && key == "size" && kind == "tmpfs":
			if o.SizeMiB, err = MiB(value); err != nil {
				return o, err
			}
		case keyed && key == "format" && kind == "mount":
			o.Format = value
		case keyed && key == "fstype" && kind == "mount" && value != "":
			o.Fstype = value
		case !keyed && key == "follow-root-symlinks" && kind == "bind":
			o.FollowRootSymlinks = true
		case keyed && key == "stat-virt" && kind == "bind":
			o.StatVirt = value
		case keyed && key == "host-perms" && kind == "bind":
			o.HostPerms = value
		case keyed && key == "quota" && kind == "bind":
			if o.QuotaMiB, err = MiB(value); err != nil {
				return o, err
			}
			if o.QuotaMiB == 0 {
				return o, fmt.Errorf("invalid %s %q: the quota is 0", kind, whole)
			}
		default:
			return o, fmt.Errorf("mount option `%s` is not valid here", key)
		}
	}
	return o, nil
}
