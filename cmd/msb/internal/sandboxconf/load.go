package sandboxconf

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Kind says what a file's fields are: those of a Config, or of a part of it.
type Kind string

// The kinds, by the flags that name the files.
const (
	All       Kind = "conf"
	Nets      Kind = "net-conf"
	Resource  Kind = "resource-conf"
	Execution Kind = "runtime-conf"
	FS        Kind = "fs-conf"
	Keys      Kind = "secret-conf"
	Commands  Kind = "script-conf"
)

// Kinds lists the kinds.
var Kinds = []Kind{All, Nets, Resource, Execution, FS, Keys, Commands}

// titles are what errors call the kinds.
var titles = map[Kind]string{
	All: "sandbox configuration", Nets: "network config", Resource: "resource config", Execution: "runtime config", FS: "filesystem config",
	Keys: "secret config", Commands: "script config",
}

// Source is a file to read.
type Source struct {
	Kind Kind
	Path string
}

// maxFile bounds a file, bytes.
const maxFile = 16 << 20

// Load lays files over each other from the first to the last: single values and lists
// replace, maps are merged. Paths of this machine come out absolute, from the file's
// folder.
func Load(sources []Source) (*Config, error) {
	c := &Config{}
	for _, s := range sources {
		if err := c.add(s); err != nil {
			return nil, failed(titles[s.Kind], s.Path, err)
		}
	}
	return c, nil
}

// failed says which file err is about, and whether it is in the file or there is none.
func failed(title, path string, err error) error {
	var read *fs.PathError
	if errors.As(err, &read) {
		return fmt.Errorf("failed to read %s %s: %w", title, path, read.Err)
	}
	return fmt.Errorf("invalid %s %s: %w", title, path, err)
}

// add lays a file over what came before.
func (c *Config) add(s Source) error {
	inPlace := map[Kind]func() any{
		All: func() any { return c }, Resource: func() any { return &c.Resources }, Execution: func() any { return &c.Runtime },
		FS: func() any { return &c.Files }, Keys: func() any { return &c.Secrets }, Commands: func() any { return &c.Scripts },
		Nets: func() any {
			if c.Network == nil {
				c.Network = &Network{}
			}
			return c.Network
		},
	}
	root, err := parse(s.Path)
	if err != nil {
		return err
	}
	if err := prepare(root, s.Kind == Keys); err != nil {
		return err
	}
	if s.Kind == All && field(root, "image") != nil {
		c.Image = nil // it is replaced as a whole
	}
	if network := networkOf(root, s.Kind); network != nil && c.Network != nil &&
		(field(network, "policy") != nil || field(network, "allow") != nil || field(network, "deny") != nil) {
		c.Network.Policy, c.Network.Allow, c.Network.Deny = "", nil, nil // and so is this
	}
	var ports []Text
	if c.Network != nil {
		ports, c.Network.Ports = c.Network.Ports, nil
	}
	if err := decode(root, inPlace[s.Kind]()); err != nil {
		return err
	}
	c.takePorts(ports)
	dir, err := filepath.Abs(filepath.Dir(s.Path))
	if err != nil {
		return err
	}
	c.locate(dir)
	return nil
}

// networkOf is the mapping with the network of a file, nil if there is none.
func networkOf(root *yaml.Node, kind Kind) *yaml.Node {
	switch kind {
	case Nets:
		return root
	case All:
		return field(root, "network")
	}
	return nil
}

// takePorts makes the ports of the root those of the network; before are those of the
// files before, which count if this one has none.
func (c *Config) takePorts(before []Text) {
	if len(c.Ports) > 0 || len(before) > 0 {
		if c.Network == nil {
			c.Network = &Network{}
		}
		if c.Network.Ports == nil && c.Ports == nil {
			c.Network.Ports = before
		}
		c.Network.Ports = append(c.Network.Ports, c.Ports...)
	}
	c.Ports = nil
}

// parse reads the one document of a file, which must be a mapping.
func parse(path string) (*yaml.Node, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		return nil, err
	case len(text) > maxFile:
		return nil, fmt.Errorf("more than %d MiB", maxFile>>20)
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	var doc yaml.Node
	if err := d.Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if d.Decode(new(yaml.Node)) != io.EOF {
		return nil, errors.New("more than one document")
	}
	if len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, errors.New("expected fields with values")
	}
	return doc.Content[0], nil
}

// maxDepth bounds the nesting of a file.
const maxDepth = 64

// short is the field that a string has in the place of a mapping.
const short = "="

// prepare refuses what is not supported, fills variables in, and gives short forms their
// long one.
func prepare(root *yaml.Node, secrets bool) error {
	if err := fill(root, secrets, 0); err != nil {
		return err
	}
	expand(field(root, "image"), short)
	expand(field(root, "network"), "policy")
	if mounts := field(root, "mounts"); mounts != nil && mounts.Kind == yaml.SequenceNode {
		for _, m := range mounts.Content {
			expand(m, short)
		}
	}
	return nil
}

// field is a mapping's value under a key, nil if there is none.
func field(n *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

// expand turns a string into a mapping of key to it.
func expand(n *yaml.Node, key string) {
	if n == nil || n.Kind != yaml.ScalarNode {
		return
	}
	value := *n
	name := yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: key, Style: yaml.DoubleQuotedStyle, Line: n.Line}
	*n = yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: n.Line, Content: []*yaml.Node{&name, &value}}
}

// fill walks through a file's values. secret says that it is below the secrets.
func fill(n *yaml.Node, secret bool, depth int) error {
	switch {
	case depth > maxDepth:
		return fmt.Errorf("line %d: nested too deeply", n.Line)
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		return fmt.Errorf("line %d: YAML anchors and aliases are not supported", n.Line)
	case n.Style&yaml.TaggedStyle != 0:
		return fmt.Errorf("line %d: YAML tags are not supported", n.Line)
	case n.Kind == yaml.ScalarNode:
		return fillString(n)
	case n.Kind == yaml.SequenceNode:
		for _, v := range n.Content {
			if err := fill(v, secret, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch {
		case key.Kind != yaml.ScalarNode || key.Anchor != "" || key.Style&yaml.TaggedStyle != 0:
			return fmt.Errorf("line %d: a field's name must be plain text", key.Line)
		case key.ShortTag() == "!!merge":
			return fmt.Errorf("line %d: YAML merge keys are not supported", key.Line)
		case seen[key.Value]:
			return fmt.Errorf("line %d: duplicate mapping key: %s", key.Line, key.Value)
		}
		seen[key.Value] = true
		if name := variable.FindStringSubmatch(value.Value); secret && key.Value == "value" && value.Kind == yaml.ScalarNode && name != nil {
			value.Tag, value.Value, value.Style = envTag, name[1], yaml.TaggedStyle
			continue
		}
		if err := fill(value, secret || depth == 0 && key.Value == "secrets", depth+1); err != nil {
			return err
		}
	}
	return nil
}

var (
	variable  = regexp.MustCompile(`^\$\{([A-Za-z_][A-Za-z0-9_]*)\}$`)
	reference = regexp.MustCompile(`\$\{[^}]*\}?`)
)

// fillString replaces ${NAME} in a string.
func fillString(n *yaml.Node) (err error) {
	if !strings.Contains(n.Value, "${") {
		return nil
	}
	n.Value = reference.ReplaceAllStringFunc(n.Value, func(ref string) string {
		name := variable.FindStringSubmatch(ref)
		if name == nil {
			err = fmt.Errorf("line %d: unsupported expression %s: only ${NAME} is", n.Line, ref)
			return ref
		}
		v, ok := os.LookupEnv(name[1])
		if !ok {
			err = fmt.Errorf("environment variable %q is not set", name[1])
		}
		return v
	})
	n.Tag, n.Style = "!!str", yaml.DoubleQuotedStyle
	return err
}

// locate makes relative paths of this machine absolute. Those of earlier files are.
func (c *Config) locate(dir string) {
	at := func(paths ...*Text) {
		for _, p := range paths {
			if *p != "" && !filepath.IsAbs(string(*p)) {
				*p = Text(filepath.Join(dir, string(*p)))
			}
		}
	}
	if i := c.Image; i != nil {
		at(&i.Disk, &i.Bind)
		if isRelative(string(i.Ref)) {
			at(&i.Ref)
		}
	}
	for i := range c.Mounts {
		m := &c.Mounts[i]
		at(&m.Bind, &m.Disk)
		if at := strings.Index(string(m.Spec), ":/"); at > 0 && !filepath.IsAbs(string(m.Spec)) {
			m.Spec = Text(filepath.Join(dir, string(m.Spec[:at]))) + m.Spec[at:]
		}
	}
	for i := range c.PatchFiles {
		at(&c.PatchFiles[i])
	}
	locatePatches(c.Patches, at)
}

func locatePatches(patches []Patch, at func(...*Text)) {
	for _, p := range patches {
		if p.CopyFile != nil {
			at(&p.CopyFile.Src)
		}
		if p.CopyDir != nil {
			at(&p.CopyDir.Src)
		}
	}
}

// isRelative reports that s begins as a path from the current folder.
func isRelative(s string) bool {
	first, _, _ := strings.Cut(s, ":")
	return first == "." || first == ".." || strings.HasPrefix(s, "./") || strings.HasPrefix(s, "../")
}

// AllPatches are the patches of the patch files and then the others.
func (f *Files) AllPatches() ([]Patch, error) {
	var all []Patch
	for _, path := range f.PatchFiles {
		var file PatchFile
		root, err := parse(string(path))
		if err == nil {
			err = prepare(root, false)
		}
		if err == nil {
			err = decode(root, &file)
		}
		if err != nil {
			return nil, failed("rootfs patch file", string(path), err)
		}
		part := Config{Files: Files{Patches: file.Patches}}
		part.locate(filepath.Dir(string(path)))
		all = append(all, part.Patches...)
	}
	return slices.Concat(all, f.Patches), nil
}
