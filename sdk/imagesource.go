package microsandbox

import (
	"encoding/json"
	"errors"
	"fmt"
)

// imageSource says where the root file system comes from; exactly one field is set.
type imageSource struct {
	OCI  *ociSource
	Disk *diskSource
	Bind *bindSource
	// Other holds a source that this release does not know, with its JSON.
	Other json.RawMessage
}

// ociSource is an image of layers with a writable part over them.
type ociSource struct {
	Reference string   `json:"reference"`
	RootDisk  rootDisk `json:"root_disk,omitzero"`
}

// diskSource is a disk image file that holds the whole root.
type diskSource struct {
	Path   string  `json:"path"`
	Format string  `json:"format"` // Raw, Qcow2 or Vmdk
	Fstype *string `json:"fstype"`
}

// bindSource is a directory of the host.
type bindSource struct {
	Path               string `json:"path"`
	FollowRootSymlinks bool   `json:"follow_root_symlinks"`
}

// MarshalJSON writes the externally tagged form {"Oci": {...}}.
func (s imageSource) MarshalJSON() ([]byte, error) {
	switch {
	case s.OCI != nil:
		return json.Marshal(map[string]any{"Oci": s.OCI})
	case s.Disk != nil:
		return json.Marshal(map[string]any{"DiskImage": s.Disk})
	case s.Bind != nil:
		return json.Marshal(map[string]any{"Bind": s.Bind})
	case len(s.Other) > 0:
		return s.Other, nil
	}
	return nil, errors.New("sandbox has no image source")
}

// UnmarshalJSON reads the externally tagged form.
func (s *imageSource) UnmarshalJSON(b []byte) error {
	var tagged map[string]json.RawMessage
	if err := json.Unmarshal(b, &tagged); err != nil {
		return fmt.Errorf("image source: %w", err)
	}
	*s = imageSource{}
	if raw, ok := tagged["Oci"]; ok {
		return json.Unmarshal(raw, &s.OCI)
	}
	if raw, ok := tagged["DiskImage"]; ok {
		return json.Unmarshal(raw, &s.Disk)
	}
	if raw, ok := tagged["Bind"]; ok {
		return json.Unmarshal(raw, &s.Bind)
	}
	s.Other = append(json.RawMessage(nil), b...)
	return nil
}

// UnmarshalJSON reads the form of 0.6.18 and that of 0.5.7, which knew a size only.
// Without either the root disk is managed.
func (o *ociSource) UnmarshalJSON(b []byte) error {
	var j struct {
		Reference    string    `json:"reference"`
		RootDisk     *rootDisk `json:"root_disk"`
		UpperSizeMiB *uint32   `json:"upper_size_mib"`
	}
	if err := json.Unmarshal(b, &j); err != nil {
		return fmt.Errorf("image source: %w", err)
	}
	*o = ociSource{j.Reference, rootDisk{Kind: rootDiskManaged, SizeMiB: j.UpperSizeMiB}}
	if j.RootDisk != nil {
		o.RootDisk = *j.RootDisk
	}
	return nil
}

// UnmarshalJSON reads the form of 0.6.18 and that of 0.5.7, a path alone.
func (s *bindSource) UnmarshalJSON(b []byte) error {
	if *s = (bindSource{}); json.Unmarshal(b, &s.Path) == nil {
		return nil
	}
	type plain bindSource
	return json.Unmarshal(b, (*plain)(s))
}

// describe is the image as a person would name it.
func (s imageSource) describe() string {
	switch {
	case s.OCI != nil:
		return s.OCI.Reference
	case s.Disk != nil:
		return s.Disk.Path
	case s.Bind != nil:
		return s.Bind.Path
	}
	return "-"
}
