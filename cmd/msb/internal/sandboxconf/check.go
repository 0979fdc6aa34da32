package sandboxconf

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// decode stores a node in out, if it is what out's type asks for.
func decode(n *yaml.Node, out any) error {
	if err := check(n, reflect.TypeOf(out), ""); err != nil {
		return err
	}
	return n.Decode(out)
}

// check reports what of a node does not fit into a type: unknown fields, missing ones, and
// values of another type or that are none of the possible ones, those of oneof if it is not
// empty. The words are those of microsandbox 0.6.18, with the line.
func check(n *yaml.Node, t reflect.Type, oneof string) error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t == reflect.TypeFor[Value]() && n.Tag == envTag:
		return nil
	case t == reflect.TypeFor[Value]() || t.Kind() == reflect.String:
		return checkText(n, oneof)
	case t.Kind() == reflect.Struct:
		return checkFields(n, t)
	case t.Kind() == reflect.Slice && n.Kind != yaml.SequenceNode:
		return mismatch(n, "a sequence")
	case t.Kind() == reflect.Slice:
		for _, item := range n.Content {
			if err := check(item, t.Elem(), oneof); err != nil {
				return err
			}
		}
	case t.Kind() == reflect.Map && n.Kind != yaml.MappingNode:
		return mismatch(n, "a map")
	case t.Kind() == reflect.Map:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if err := check(n.Content[i+1], t.Elem(), oneof); err != nil {
				return err
			}
		}
	case t.Kind() == reflect.Bool:
		if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!bool" {
			return mismatch(n, "a boolean, true or false")
		}
	default:
		return checkNumber(n, t)
	}
	return nil
}

func checkText(n *yaml.Node, oneof string) error {
	if tag := n.ShortTag(); n.Kind != yaml.ScalarNode || tag != "!!str" && tag != "!!timestamp" {
		return mismatch(n, "a string")
	}
	if possible := strings.Fields(oneof); oneof != "" && !slices.Contains(possible, n.Value) {
		return fmt.Errorf("unknown variant `%s`, expected %s (line %d)", n.Value, alternatives(possible), n.Line)
	}
	return nil
}

func checkNumber(n *yaml.Node, t reflect.Type) error {
	name := strings.Replace(t.Kind().String(), "uint", "u", 1)
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!int" {
		return mismatch(n, name)
	}
	if n.Decode(reflect.New(t).Interface()) != nil {
		return fmt.Errorf("invalid value: integer `%s`, expected %s (line %d)", n.Value, name, n.Line)
	}
	return nil
}

// checkFields checks a mapping that is to fill a struct.
func checkFields(n *yaml.Node, t reflect.Type) error {
	if n.Kind != yaml.MappingNode {
		return mismatch(n, "fields with values")
	}
	var names []string
	fields := map[string]reflect.StructField{}
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if name == "" {
			continue // embedded: its fields are visible
		}
		if fields[name] = f; name != short {
			names = append(names, name)
		}
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		f, ok := fields[key.Value]
		switch {
		case !ok:
			return fmt.Errorf("unknown field `%s`, expected %s (line %d)", key.Value, alternatives(names), key.Line)
		case value.ShortTag() == "!!null" && f.Tag.Get("must") != needed:
			continue
		}
		if err := check(value, f.Type, f.Tag.Get("oneof")); err != nil {
			return err
		}
		if f.Tag.Get("must") == full && value.Value == "" {
			return fmt.Errorf("`%s` must not be empty (line %d)", key.Value, key.Line)
		}
		delete(fields, key.Value)
	}
	for _, name := range names {
		if f, missing := fields[name]; missing && f.Tag.Get("must") == needed {
			return fmt.Errorf("missing field `%s` (line %d)", name, n.Line)
		}
	}
	return nil
}

// What the must of a field's tag may say.
const (
	needed = "be there"
	full   = "not be empty"
)

// mismatch is a value of another type than the expected one.
func mismatch(n *yaml.Node, expected string) error {
	return fmt.Errorf("invalid type: %s, expected %s (line %d)", describe(n), expected, n.Line)
}

func describe(n *yaml.Node) string {
	switch tag := n.ShortTag(); {
	case n.Kind == yaml.SequenceNode:
		return "sequence"
	case n.Kind == yaml.MappingNode:
		return "map"
	case tag == "!!int":
		return "integer `" + n.Value + "`"
	case tag == "!!float":
		return "floating point `" + n.Value + "`"
	case tag == "!!bool":
		return "boolean `" + n.Value + "`"
	case tag == "!!null":
		return "null"
	}
	return fmt.Sprintf("string %q", n.Value)
}

// alternatives lists names: `a`; `a` or `b`; one of `a`, `b`, `c`.
func alternatives(names []string) string {
	switch quoted := "`" + strings.Join(names, "`, `") + "`"; len(names) {
	case 2:
		return "`" + names[0] + "` or `" + names[1] + "`"
	case 1:
		return quoted
	default:
		return "one of " + quoted
	}
}
