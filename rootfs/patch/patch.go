package patch

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/gomsb/gomsb/rootfs/tree"
)

var (
	// ErrInvalid reports a patch that no file system could take.
	ErrInvalid = errors.New("invalid patch")
	// ErrExists reports a patch whose file is there already, and that does not say that it
	// replaces one.
	ErrExists = errors.New("file exists")
	// ErrNotFound reports a file to append to that is not there.
	ErrNotFound = errors.New("file not found in rootfs")
	// ErrKind reports a file in the way that is of another kind, such as a directory in the
	// place of a file.
	ErrKind = errors.New("file of another kind")
	// ErrSource reports a file of the host that cannot be copied.
	ErrSource = errors.New("cannot copy from the host")
)

// Kind says what a patch does.
type Kind string

// The kinds, by the name of their JSON form. Files, directories and links that they make
// belong to root and are of 1970.
const (
	Text     Kind = "Text"     // a file at Path with Content, which is text
	File     Kind = "File"     // a file at Path with Content
	CopyFile Kind = "CopyFile" // a file at Dst like Src of the host
	CopyDir  Kind = "CopyDir"  // a tree at Dst like Src of the host; what is there stays
	Symlink  Kind = "Symlink"  // a symbolic link at Link to Target
	Mkdir    Kind = "Mkdir"    // a directory at Path, unless it is there
	Remove   Kind = "Remove"   // nothing at Path, nor below it
	Append   Kind = "Append"   // Content at the end of the file at Path
)

// Patch is one change. Paths are absolute in the guest, but Src. Mode is the permission
// bits of what is made; nil stands for 0644, 0755 for Mkdir, and those of the source for
// CopyFile, without set-user-ID and set-group-ID. Replace allows a file in the place of
// another.
type Patch struct {
	Kind    Kind
	Path    string
	Content []byte
	Mode    *uint32
	Replace bool
	Src     string
	Dst     string
	Target  string
	Link    string
}

// place is the path that the patch is about.
func (p *Patch) place() string {
	switch p.Kind {
	case CopyFile, CopyDir:
		return p.Dst
	case Symlink:
		return p.Link
	}
	return p.Path
}

// maxTarget is the longest target of a symbolic link in bytes, PATH_MAX without its NUL.
const maxTarget = 4095

// Validate checks what can be checked without a file system. Errors wrap ErrInvalid.
func (p *Patch) Validate() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s %s: %s", ErrInvalid, strings.ToLower(string(p.Kind)), p.place(), fmt.Sprintf(format, args...))
	}
	if !slices.Contains([]Kind{Text, File, CopyFile, CopyDir, Symlink, Mkdir, Remove, Append}, p.Kind) {
		return fmt.Errorf("%w: unknown kind %q", ErrInvalid, p.Kind)
	}
	place := p.place()
	parts, err := tree.Split(place)
	switch {
	case !strings.HasPrefix(place, "/"):
		return bad("the path is not absolute")
	case err != nil:
		return bad("%v", err)
	case len(parts) == 0:
		return bad("patch path must not be '/'")
	case len(parts) > tree.MaxDepth:
		return bad("more than %d directories deep", tree.MaxDepth)
	case p.Mode != nil && *p.Mode&^tree.PermMask != 0:
		return bad("mode %#o is more than permission bits", *p.Mode)
	case p.Kind == Symlink && (p.Target == "" || len(p.Target) > maxTarget || strings.ContainsRune(p.Target, 0)):
		return bad("%q is no target of a symbolic link", p.Target)
	case (p.Kind == CopyFile || p.Kind == CopyDir) && (p.Src == "" || strings.ContainsRune(p.Src, 0)):
		return bad("%q is no path of a source", p.Src)
	}
	return nil
}

// form is the JSON form of the patch's fields, those of its kind in the order of
// microsandbox 0.6.18, for reading and writing; nil for an unknown kind.
func (p *Patch) form() any {
	type path struct {
		Path *string `json:"path"`
	}
	type options struct {
		Mode    **uint32 `json:"mode"`
		Replace *bool    `json:"replace"`
	}
	switch p.Kind {
	case Text:
		return &struct {
			path
			Content *text `json:"content"`
			options
		}{path{&p.Path}, (*text)(&p.Content), options{&p.Mode, &p.Replace}}
	case File:
		return &struct {
			path
			Content *octets `json:"content"`
			options
		}{path{&p.Path}, (*octets)(&p.Content), options{&p.Mode, &p.Replace}}
	case CopyFile:
		return &struct {
			Src *string `json:"src"`
			Dst *string `json:"dst"`
			options
		}{&p.Src, &p.Dst, options{&p.Mode, &p.Replace}}
	case CopyDir:
		return &struct {
			Src     *string `json:"src"`
			Dst     *string `json:"dst"`
			Replace *bool   `json:"replace"`
		}{&p.Src, &p.Dst, &p.Replace}
	case Symlink:
		return &struct {
			Target  *string `json:"target"`
			Link    *string `json:"link"`
			Replace *bool   `json:"replace"`
		}{&p.Target, &p.Link, &p.Replace}
	case Mkdir:
		return &struct {
			path
			Mode **uint32 `json:"mode"`
		}{path{&p.Path}, &p.Mode}
	case Remove:
		return &path{&p.Path}
	case Append:
		return &struct {
			path
			Content *text `json:"content"`
		}{path{&p.Path}, (*text)(&p.Content)}
	}
	return nil
}

// text is content as a string.
type text []byte

func (c text) MarshalJSON() ([]byte, error) { return json.Marshal(string(c)) }

func (c *text) UnmarshalJSON(b []byte) error {
	var s string
	err := json.Unmarshal(b, &s)
	*c = text(s)
	return err
}

// octets are content as an array of numbers, which is how they are read by default.
type octets []byte

func (c octets) MarshalJSON() ([]byte, error) {
	numbers := make([]uint16, len(c))
	for i, b := range c {
		numbers[i] = uint16(b)
	}
	return json.Marshal(numbers)
}

// MarshalJSON writes the form of 0.6.18, {"Mkdir": {...}}.
func (p Patch) MarshalJSON() ([]byte, error) {
	form := p.form()
	if form == nil {
		return nil, fmt.Errorf("%w: unknown kind %q", ErrInvalid, p.Kind)
	}
	return json.Marshal(map[Kind]any{p.Kind: form})
}

// UnmarshalJSON reads what MarshalJSON writes. Errors wrap ErrInvalid.
func (p *Patch) UnmarshalJSON(b []byte) error {
	var tagged map[Kind]json.RawMessage
	if err := json.Unmarshal(b, &tagged); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	for kind, raw := range tagged {
		*p = Patch{Kind: kind}
		form := p.form()
		if form == nil || len(tagged) != 1 {
			break
		}
		if err := json.Unmarshal(raw, form); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrInvalid, kind, err)
		}
		return nil
	}
	return fmt.Errorf("%w: %.100s is no patch of a known kind", ErrInvalid, b)
}
