package proto

import (
	"fmt"
	"reflect"
	"strings"
	"sync"

	"github.com/fxamacker/cbor/v2"
)

// checkShape walks payload beside the type of dst and refuses what the struct decoder
// would let pass: a missing required key, null or undefined where a value is needed,
// duplicate keys, nesting beyond MaxDepth. A field is required unless it is a pointer,
// has "omitempty" in its cbor tag or the tag `wire:"default"`. Types with their own
// UnmarshalCBOR check themselves.
func checkShape(payload []byte, dst any) error {
	t := reflect.TypeOf(dst)
	if t == nil || t.Kind() != reflect.Pointer {
		return fmt.Errorf("cannot decode into %T", dst)
	}
	c := cursor{b: payload}
	return checkValue(&c, t.Elem(), MaxDepth)
}

var unmarshalerType = reflect.TypeFor[cbor.Unmarshaler]()

func checkValue(c *cursor, t reflect.Type, depth int) error {
	if t.Kind() == reflect.Pointer {
		if c.null() {
			return nil
		}
		t = t.Elem()
	}
	if c.null() {
		return fmt.Errorf("null where %s is needed", t.Kind())
	}
	if reflect.PointerTo(t).Implements(unmarshalerType) {
		return c.skip(depth)
	}
	switch t.Kind() {
	case reflect.Struct:
		return checkStruct(c, t, depth)
	case reflect.Slice:
		if t.Elem().Kind() != reflect.Uint8 {
			return checkList(c, t.Elem(), depth)
		}
	}
	return c.skip(depth)
}

func checkList(c *cursor, elem reflect.Type, depth int) error {
	major, info, n, err := c.head()
	if err != nil {
		return err
	}
	if major != majorArray {
		return fmt.Errorf("want an array, got %s", majorName(major))
	}
	if depth <= 0 {
		return errDepth
	}
	count := 0
	return c.items(info, n, func() error {
		if count++; count > maxElements {
			return fmt.Errorf("more than %d elements", maxElements)
		}
		return checkValue(c, elem, depth-1)
	})
}

func checkStruct(c *cursor, t reflect.Type, depth int) error {
	s := shapeOf(t)
	var seen uint64
	err := c.mapEntries(depth, func(key []byte, depth int) error {
		i, ok := s.index[string(key)]
		if !ok {
			return c.skip(depth)
		}
		if seen&(1<<i) != 0 {
			return fmt.Errorf("key %q twice", key)
		}
		seen |= 1 << i
		if err := checkValue(c, s.types[i], depth); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for name, i := range s.index {
		if s.required&(1<<i) != 0 && seen&(1<<i) == 0 {
			return fmt.Errorf("key %q missing", name)
		}
	}
	return nil
}

// shape is what checkStruct needs to know about a struct of at most 64 fields.
type shape struct {
	index    map[string]int
	types    []reflect.Type
	required uint64
}

var shapes sync.Map // reflect.Type to *shape; bounded by the types of this package

func shapeOf(t reflect.Type) *shape {
	if s, ok := shapes.Load(t); ok {
		return s.(*shape)
	}
	s := &shape{index: make(map[string]int, t.NumField())}
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("cbor"), ",")
		i := len(s.types)
		s.index[name] = i
		s.types = append(s.types, f.Type)
		optional := f.Type.Kind() == reflect.Pointer || f.Tag.Get("wire") == "default" ||
			strings.Contains(options, "omitempty")
		if !optional {
			s.required |= 1 << i
		}
	}
	shapes.Store(t, s)
	return s
}
