package secrets

import (
	"encoding/base64"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// A decoder appends the decoded form of b to dst. What is no escape stays. seen is how
// much of the result comes from the first mark bytes of b alone.
type decoder func(dst, b []byte, mark int) (out []byte, seen int)

// percentDecode replaces %XX, RFC 3986 §2.1.
func percentDecode(dst, b []byte, mark int) (out []byte, seen int) {
	for i := 0; i < len(b); {
		n := 1
		c := b[i]
		if c == '%' && i+2 < len(b) && isHex(b[i+1]) && isHex(b[i+2]) {
			c, n = unhex(b[i+1])<<4|unhex(b[i+2]), 3
		}
		dst = append(dst, c)
		if i += n; i <= mark {
			seen = len(dst)
		}
	}
	return dst, seen
}

// jsonUnescape replaces the escapes of strings, RFC 8259 §7.
func jsonUnescape(dst, b []byte, mark int) (out []byte, seen int) {
	for i := 0; i < len(b); {
		n := 1
		switch {
		case b[i] != '\\' || i+1 == len(b):
			dst = append(dst, b[i])
		case b[i+1] == 'u':
			var r rune
			if r, n = unicodeEscape(b[i:]); n == 1 {
				dst = append(dst, '\\')
			} else {
				dst = utf8.AppendRune(dst, r)
			}
		default:
			n = 1
			if k := strings.IndexByte(`"\/bfnrt`, b[i+1]); k >= 0 {
				dst, n = append(dst, "\"\\/\b\f\n\r\t"[k]), 2
			} else {
				dst = append(dst, '\\')
			}
		}
		if i += n; i <= mark {
			seen = len(dst)
		}
	}
	return dst, seen
}

// unicodeEscape reads \uXXXX, or two of them that are one character; n is 1 if it is not
// there.
func unicodeEscape(b []byte) (r rune, n int) {
	r, ok := hex4(b)
	if !ok {
		return 0, 1
	}
	if utf16.IsSurrogate(r) {
		if low, ok := hex4(b[6:]); ok {
			if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
				return pair, 12
			}
		}
	}
	return r, 6
}

func hex4(b []byte) (rune, bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(b[2:6]), 16, 16)
	return rune(n), err == nil
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func unhex(c byte) byte {
	switch {
	case c >= 'a':
		return c - 'a' + 10
	case c >= 'A':
		return c - 'A' + 10
	}
	return c - '0'
}

// percentEncode appends text with all but the unreserved characters of RFC 3986 §2.3
// escaped.
func percentEncode(dst []byte, text string) []byte {
	for _, c := range []byte(text) {
		if isAlnum(c) || strings.IndexByte("-._~", c) >= 0 {
			dst = append(dst, c)
		} else {
			dst = append(dst, '%', "0123456789ABCDEF"[c>>4], "0123456789ABCDEF"[c&15])
		}
	}
	return dst
}

func isAlnum(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// basic is user:password of the value of an Authorization field, RFC 7617.
func basic(value []byte) (credentials []byte, ok bool) {
	text := strings.TrimSpace(string(value))
	if len(text) < 6 || !strings.EqualFold(text[:5], "basic") || text[5] != ' ' {
		return nil, false
	}
	text = strings.TrimRight(strings.TrimSpace(text[6:]), "=")
	for _, e := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		if b, err := e.DecodeString(text); err == nil {
			return b, true
		}
	}
	return nil, false
}

// basicValue is the value of an Authorization field with credentials.
func basicValue(credentials []byte) []byte {
	return base64.StdEncoding.AppendEncode([]byte("Basic "), credentials)
}
