package launch

import (
	"fmt"
	"reflect"
	"strings"
	"unicode/utf8"
)

// checkText reports, by an error that wraps [ErrConfig], a string in v that is not UTF-8.
// JSON cannot carry it (RFC 8259 §8.1), and its encoder writes another string instead. The
// error says where it is and not what: it may be a secret.
func checkText(v any) error {
	if at, bad := notUTF8(reflect.ValueOf(v)); bad {
		return configf("%s is not UTF-8: paths and values must be", strings.TrimPrefix(at, "."))
	}
	return nil
}

// notUTF8 is the place of the first such string in v, in the document's keys.
func notUTF8(v reflect.Value) (at string, bad bool) {
	switch v.Kind() {
	case reflect.String:
		return "", !utf8.ValidString(v.String())
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			return notUTF8(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if at, bad := notUTF8(v.Field(i)); bad {
				return keyOf(v.Type().Field(i)) + at, true
			}
		}
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return "", false // a document, which JSON's own decoder has read
		}
		for i := range v.Len() {
			if at, bad := notUTF8(v.Index(i)); bad {
				return fmt.Sprintf("[%d]%s", i, at), true
			}
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			if _, bad := notUTF8(it.Key()); bad {
				return " (a key)", true
			}
			if at, bad := notUTF8(it.Value()); bad {
				return fmt.Sprintf("[%v]%s", it.Key(), at), true
			}
		}
	}
	return "", false
}

// keyOf is the key of a field in the document, after a dot; that of an embedded one is none.
func keyOf(f reflect.StructField) string {
	if f.Anonymous {
		return ""
	}
	key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	if key == "" {
		key = f.Name
	}
	return "." + key
}
