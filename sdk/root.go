package microsandbox

import (
	"path/filepath"
	"strings"

	"github.com/gomsb/gomsb/guestagent/proto"
	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/oci"
)

// WithBindRootfs makes a directory of the host the root file system: the sandbox works on
// its files, owners and modes as the host's attributes keep them.
func WithBindRootfs(path string) SandboxOption {
	return func(c *SandboxConfig) { c.ImageBind = path }
}

// isDiskImage reports that an image argument is the path of a disk image file.
func isDiskImage(path string) bool {
	ext := filepath.Ext(path)
	return ext == ".raw" || ext == ".qcow2" || ext == ".vmdk"
}

func diskFormat(path string) string {
	switch filepath.Ext(path) {
	case ".qcow2":
		return "Qcow2"
	case ".vmdk":
		return "Vmdk"
	}
	return "Raw"
}

// setImage fills in where the root comes from, and what an image's configuration says
// where the caller did not. img is nil for other roots.
func (s *spec) setImage(c *SandboxConfig, img *oci.Image) error {
	if img != nil {
		disk, err := c.RootDisk.stored()
		if c.Snapshot != "" {
			disk = rootDisk{Kind: rootDiskManaged} // as large as it is
		}
		s.Image.OCI = &ociSource{Reference: c.Image, RootDisk: disk}
		s.ManifestDigest = pointer(img.ManifestDigest.String())
		s.mergeImage(c, img.Config)
		return err
	}
	abs, err := filepath.Abs(c.ImageBind + c.Image) // one of which is empty
	if err != nil {
		return wrap(ErrInvalidConfig, err)
	}
	if c.ImageBind != "" {
		s.Image.Bind = &bindSource{Path: abs}
		return nil
	}
	s.Image.Disk = &diskSource{Path: abs, Format: diskFormat(abs), Fstype: pointer(c.ImageFstype)}
	return nil
}

// mergeImage takes from an image's configuration what the caller leaves open.
func (s *spec) mergeImage(c *SandboxConfig, image oci.Config) {
	for _, kv := range image.Env {
		k, v, ok := strings.Cut(kv, "=")
		if _, overridden := c.Env[k]; ok && k != "" && !overridden {
			s.Env = append(s.Env, keyValue{k, v})
		}
	}
	for k, v := range image.Labels {
		if k != "" && reservedPrefix(k) == "" {
			s.Labels[k] = v
		}
	}
	if c.Entrypoint == nil && len(image.Entrypoint) > 0 {
		s.Runtime.Entrypoint = image.Entrypoint
	}
	if c.Cmd == nil && len(image.Cmd) > 0 {
		s.Runtime.Cmd = image.Cmd
	}
	if s.Runtime.Workdir == nil {
		s.Runtime.Workdir = pointer(image.WorkingDir)
	}
	if s.Runtime.User == nil {
		s.Runtime.User = pointer(image.User)
	}
}

// launchRoot adds the root file system to a launch. vmdk is the root disk of an OCI
// image.
func (s *spec) launchRoot(c *launch.Config, vmdk string) error {
	b := &c.Bootstrap
	switch {
	case s.Image.OCI != nil:
		return s.Image.OCI.RootDisk.launch(c, s.Name, vmdk)
	case s.Image.Disk != nil:
		format := strings.ToLower(s.Image.Disk.Format)
		c.Rootfs.Disk, c.Rootfs.DiskFormat = &s.Image.Disk.Path, &format
		b.BlockRoot = &proto.BlockRoot{Kind: proto.RootDiskImage, Device: launch.DiskPath(0), FSType: value(s.Image.Disk.Fstype)}
	case s.Image.Bind != nil:
		c.Rootfs.Path, c.Rootfs.FollowRootSymlinks = &s.Image.Bind.Path, s.Image.Bind.FollowRootSymlinks
	default:
		return fail(ErrUnsupportedOperation, "this kind of root file system is not available in this release")
	}
	return nil
}

// launch adds the image and the disk over it to the launch of the named sandbox.
func (d *rootDisk) launch(c *launch.Config, name, vmdk string) error {
	format := "vmdk"
	c.Rootfs.Disk, c.Rootfs.DiskFormat = &vmdk, &format
	root := &proto.BlockRoot{Kind: proto.RootOCIErofs, Lower: launch.DiskPath(0)}
	c.Bootstrap.BlockRoot = root
	device := &proto.Upper{Kind: proto.UpperDevice, Device: launch.DiskPath(1), FSType: orDefault(value(d.Fstype), "ext4")}
	switch d.Kind {
	case rootDiskTmpfs:
		root.Upper = &proto.Upper{Kind: proto.UpperTmpfs, SizeMiB: d.SizeMiB}
	case rootDiskManaged:
		upper := filepath.Join(c.SandboxesDir, name, upperName)
		c.Rootfs.Upper, root.Upper = &upper, device
	case rootDiskImage:
		format := strings.ToLower(d.Format)
		c.Rootfs.Upper, c.Rootfs.UpperFormat, root.Upper = &d.Path, &format, device
	case rootDiskFlat:
		disk, raw := filepath.Join(c.SandboxesDir, name, flatName), "raw"
		c.Rootfs.Disk, c.Rootfs.DiskFormat = &disk, &raw
		*root = proto.BlockRoot{Kind: proto.RootDiskImage, Device: launch.DiskPath(0), FSType: device.FSType}
	default:
		return fail(ErrUnsupportedOperation, "root disk kind %q is not available in this release", d.Kind)
	}
	return nil
}
