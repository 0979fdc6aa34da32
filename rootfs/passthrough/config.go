package passthrough

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"
)

var (
	// ErrConfig is wrapped by every error that a change of the Config mends.
	ErrConfig = errors.New("invalid shared directory")
	// ErrNoAttributes reports a strict share on a file system without extended
	// attributes.
	ErrNoAttributes = errors.New("the file system keeps no user extended attributes: share it with stat-virt=relaxed or stat-virt=off")
	// ErrState reports saved state that is damaged, of another version or of another
	// share.
	ErrState = errors.New("invalid state of a shared directory")
)

// StatMode says where owner, mode and type of files that the guest changes are kept.
type StatMode string

const (
	// StatStrict keeps them in the extended attribute user.msb.override_stat of the host
	// file; a directory that cannot have it is not shared.
	StatStrict StatMode = "strict"
	// StatRelaxed does the same as far as the host's file system allows.
	StatRelaxed StatMode = "relaxed"
	// StatOff shows files as they are: the guest can change permissions, but neither
	// owners nor types.
	StatOff StatMode = "off"
)

// PermMode says what becomes of the permissions of host files.
type PermMode string

const (
	// PermsPrivate leaves them to the host's user alone: 0600 and 0700 for new files.
	PermsPrivate PermMode = "private"
	// PermsMirror gives host files the permission bits that the guest gives, and always
	// those of PermsPrivate.
	PermsMirror PermMode = "mirror"
)

// Owner is a user and group of the guest.
type Owner struct{ UID, GID uint32 }

// Config describes a share.
type Config struct {
	// Root is the directory to share, absolute or relative to the working directory.
	Root string
	// Only, unless empty, is the one name in Root that is shared, a regular file's.
	Only string
	// FollowSymlinks allows symbolic links in Root; else none of its components may be
	// one, nor "..".
	FollowSymlinks bool
	// ReadOnly refuses every change with EROFS.
	ReadOnly bool
	// Stat is StatStrict if empty.
	Stat StatMode
	// Perms is PermsPrivate if empty. StatOff knows no PermsMirror.
	Perms PermMode
	// MapOwner shows the files without a stored owner that belong to the host user of
	// this process as the guest user that SetOwner names, and all others as nobody's
	// (65534). It has no effect with StatOff.
	MapOwner bool
	// Owner is what SetOwner would set; nil leaves it to be set later.
	Owner *Owner
	// Quota bounds by how many bytes the guest may make the files of the share longer;
	// 0 is no bound, and NoGrowth lets it make none longer.
	Quota int64
	// HostLocks makes the guest's file locks exclude other processes of the host and
	// other guests; else they exclude only each other in the guest, which is faster.
	HostLocks bool
	// Timeout is how long the guest may believe what it knows of names and attributes;
	// 0 is DefaultTimeout.
	Timeout time.Duration
	// Descriptors, Handles and Nodes bound what the share takes: open descriptors of
	// nodes, files and directories that the guest has open, and files that it knows. 0
	// is a default.
	Descriptors, Handles, Nodes int
	// Logger receives what went wrong on the host; nil discards it.
	Logger *slog.Logger
}

// NoGrowth is the Quota of a share that is full.
const NoGrowth = -1

// DefaultTimeout is how long the guest may believe names and attributes.
const DefaultTimeout = 5 * time.Second

const (
	defaultDescriptors = 4096
	defaultHandles     = 8192
	defaultNodes       = 1 << 20
)

// Validate reports the first value out of range; the error wraps ErrConfig.
func (c *Config) Validate() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrConfig, fmt.Sprintf(format, args...))
	}
	switch {
	case c.Root == "" || strings.ContainsRune(c.Root, 0):
		return bad("%q is no path", c.Root)
	case !c.FollowSymlinks && hasDotDot(c.Root):
		return bad("%s climbs with '..'", c.Root)
	case c.Only != "" && (c.Only == "." || c.Only == ".." || len(c.Only) > maxName || strings.ContainsAny(c.Only, "/\x00")):
		return bad("%q is no file name", c.Only)
	case c.Stat != "" && c.Stat != StatStrict && c.Stat != StatRelaxed && c.Stat != StatOff:
		return bad("stat-virt=%s: choose strict, relaxed or off", c.Stat)
	case c.Perms != "" && c.Perms != PermsPrivate && c.Perms != PermsMirror:
		return bad("host-perms=%s: choose private or mirror", c.Perms)
	case c.Stat == StatOff && c.Perms == PermsMirror:
		return bad("stat-virt=off already changes the host's permissions: leave out host-perms=mirror")
	case c.Quota < NoGrowth || c.Timeout < 0 || c.Descriptors < 0 || c.Handles < 0 || c.Nodes < 0:
		return bad("a limit is negative")
	}
	return nil
}

func hasDotDot(path string) bool {
	for part := range strings.SplitSeq(filepath.ToSlash(path), "/") {
		if part == ".." {
			return true
		}
	}
	return false
}

func (c *Config) setDefaults() {
	set := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	set(&c.Descriptors, defaultDescriptors)
	set(&c.Handles, defaultHandles)
	set(&c.Nodes, defaultNodes)
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	if c.Stat == "" {
		c.Stat = StatStrict
	}
	if c.Perms == "" {
		c.Perms = PermsPrivate
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}
