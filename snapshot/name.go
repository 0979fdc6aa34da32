package snapshot

import (
	"fmt"
	"strings"
	"unicode"
)

// maxName leaves room in a file name, of 255 bytes, for what staging adds.
const maxName = 240

// ValidateName checks a snapshot's name; the error is [ErrName].
func ValidateName(name string) error {
	if name == "" || len(name) > maxName || name[0] == '.' || name[0] == '~' || strings.ContainsAny(name, `/\:`) || strings.ContainsFunc(name, unicode.IsControl) {
		return fmt.Errorf("%q: %w", name, ErrName)
	}
	return nil
}
