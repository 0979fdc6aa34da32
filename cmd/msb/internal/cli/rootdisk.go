package cli

import (
	"fmt"
	"strings"

	"github.com/gomsb/gomsb/cmd/msb/internal/flagtype"
	msb "github.com/gomsb/gomsb/sdk"
)

// rootDisk parses the value of --root-disk: SIZE, tmpfs[:SIZE],
// flat[:SIZE][,fstype=T][,clone=S], or PATH[:format=F,fstype=T], where a path is what
// looks like one.
func rootDisk(s string) (msb.RootDiskConfig, error) {
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "~") || strings.ContainsAny(s, `/\`) {
		return rootDiskImage(s)
	}
	head, rest, _ := strings.Cut(s, ",")
	kind, size, sized := strings.Cut(head, ":")
	options, err := rootDiskOptions(rest, map[string]bool{"fstype": kind == "flat", "clone": kind == "flat"})
	if err != nil {
		return msb.RootDiskConfig{}, err
	}
	if kind != "tmpfs" && kind != "flat" {
		mib, err := rootDiskSize(s)
		if err != nil {
			err = fmt.Errorf("%w; else tmpfs, flat, or the path of a disk image, such as ./%s", err, s)
		}
		return msb.RootDisk.Managed(mib), err
	}
	var mib uint32
	if sized {
		if mib, err = rootDiskSize(size); err != nil {
			return msb.RootDiskConfig{}, err
		}
	}
	if kind == "tmpfs" {
		return msb.RootDisk.Tmpfs(msb.RootDiskTmpfsOptions{SizeMiB: mib}), nil
	}
	return msb.RootDisk.Flat(msb.RootDiskFlatOptions{SizeMiB: mib, Fstype: options["fstype"], Clone: msb.FlatClone(options["clone"])}), nil
}

func rootDiskImage(s string) (msb.RootDiskConfig, error) {
	path, list := s, ""
	if i := strings.LastIndexByte(s, ':'); i >= 0 && strings.Contains(s[i:], "=") && !strings.Contains(s[i:], "/") {
		path, list = s[:i], s[i+1:]
	}
	o, err := rootDiskOptions(list, map[string]bool{"format": true, "fstype": true})
	return msb.RootDisk.Disk(path, msb.RootDiskImageOptions{Format: o["format"], Fstype: o["fstype"]}), err
}

// rootDiskOptions parses KEY=VALUE,KEY=VALUE.
func rootDiskOptions(list string, allowed map[string]bool) (map[string]string, error) {
	options := map[string]string{}
	if list == "" {
		return options, nil
	}
	for _, item := range strings.Split(list, ",") {
		key, value, _ := strings.Cut(item, "=")
		switch _, twice := options[key]; {
		case !allowed[key]:
			return nil, fmt.Errorf("root disk option `%s` is not valid here", key)
		case value == "":
			return nil, fmt.Errorf("root disk option `%s` needs a value", key)
		case twice:
			return nil, fmt.Errorf("root disk option `%s` specified more than once", key)
		}
		options[key] = value
	}
	return options, nil
}

func rootDiskSize(s string) (uint32, error) {
	n, err := flagtype.MiB(s)
	if err == nil && n == 0 {
		err = fmt.Errorf("root disk size must be greater than 0")
	}
	return n, err
}
