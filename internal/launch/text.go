package launch

import (
	"reflect"
	"unicode/utf8"
)

// checkText reports, by an error that wraps [ErrConfig], a string in v that is not UTF-8.
// JSON cannot carry it (RFC 8259 §8.1), and its encoder writes another string instead.
func checkText(v any) error { return checkTextOf(reflect.ValueOf(v)) }

func checkTextOf(v reflect.Value) error {
	switch v.Kind() {
	case reflect.String:
		if s := v.String(); !utf8.ValidString(s) {
			return configf("%q is not UTF-8: paths and values must be", s)
		}
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			return checkTextOf(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if err := checkTextOf(v.Field(i)); err != nil {
				return err
			}
		}
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return nil // a document, which JSON's own decoder has read
		}
		for i := range v.Len() {
			if err := checkTextOf(v.Index(i)); err != nil {
				return err
			}
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			if err := checkTextOf(it.Key()); err != nil {
				return err
			}
			if err := checkTextOf(it.Value()); err != nil {
				return err
			}
		}
	}
	return nil
}
