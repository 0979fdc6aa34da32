package account

import (
	"errors"
	"fmt"
	"strings"
)

// Identity is what a process is to run as.
type Identity struct {
	UID, GID uint32
	// Groups are the supplementary groups; empty for a user who is in no file.
	Groups []uint32
	// Home is the home directory of the passwd entry, "" if there is none.
	Home string
}

// Errors of user specifications. Their texts are the protocol's.
var (
	ErrEmptyUser  = errors.New("user spec has empty user")
	ErrEmptyGroup = errors.New("user spec has empty group")
	ErrNoUser     = errors.New("guest user not found")
	ErrNoGroup    = errors.New("guest group not found")
)

// Resolve turns "user", "uid", "user:group" or any mix with numbers into an identity.
// The group of a number that no entry names is 0.
func (d Database) Resolve(spec string) (Identity, error) {
	user, group, grouped := strings.Cut(strings.TrimSpace(spec), ":")
	user, group = strings.TrimSpace(user), strings.TrimSpace(group)
	if user == "" {
		return Identity{}, ErrEmptyUser
	}
	if grouped && group == "" {
		return Identity{}, ErrEmptyGroup
	}
	id, name, err := d.user(user)
	if err != nil {
		return Identity{}, err
	}
	if grouped {
		if id.GID, err = d.group(group); err != nil {
			return Identity{}, err
		}
	}
	if name != "" {
		if id.Groups, err = d.memberships(name, id.GID); err != nil {
			return Identity{}, err
		}
	}
	return id, nil
}

// user also returns the name of the entry, "" if there is none.
func (d Database) user(s string) (id Identity, name string, err error) {
	var e Entry
	var ok bool
	uid, numeric := parseID(s)
	if numeric == nil {
		e, ok, err = d.ByUID(uid)
	} else {
		e, ok, err = d.ByName(s)
	}
	switch {
	case err != nil:
		return Identity{}, "", err
	case ok:
		return Identity{UID: e.UID, GID: e.GID, Home: e.Home}, e.Name, nil
	case numeric == nil:
		return Identity{UID: uid}, "", nil
	}
	return Identity{}, "", fmt.Errorf("%w: %s", ErrNoUser, s)
}

func (d Database) group(s string) (uint32, error) {
	if gid, err := parseID(s); err == nil {
		return gid, nil
	}
	gid, ok, err := d.groupID(s)
	if err != nil {
		return 0, err
	}
	if !ok {
		return 0, fmt.Errorf("%w: %s", ErrNoGroup, s)
	}
	return gid, nil
}
