package secrets

import "bytes"

// each calls f for the placeholders in b, from left to right, the longest at each place;
// they do not overlap. It ends when f returns false. It returns how much of b is certain:
// unless b is all there is, a placeholder may begin at its end.
func (v *view) each(b []byte, all bool, f func(start, end int, w *word) bool) (certain int) {
	next := make([]int, len(v.words)) // where a word is, at pos or after it; len(b): nowhere
	for i := range next {
		next[i] = -1
	}
	for pos := 0; ; {
		start, w := len(b), (*word)(nil)
		for i := range v.words {
			if next[i] < pos {
				next[i] = indexFrom(b, pos, v.words[i].text)
			}
			if next[i] < start {
				start, w = next[i], &v.words[i]
			}
		}
		open := len(b)
		if !all {
			open = v.beginning(b, pos)
		}
		if w == nil || start >= open {
			return open
		}
		end := start + len(w.text)
		if !f(start, end, w) {
			return end
		}
		pos = end
	}
}

func indexFrom(b []byte, pos int, text string) int {
	if i := bytes.Index(b[pos:], []byte(text)); i >= 0 {
		return pos + i
	}
	return len(b)
}

// beginning is where, at pos or after it, b ends with the beginning of a placeholder;
// len(b) if it does not.
func (v *view) beginning(b []byte, pos int) int {
	for i := max(pos, len(b)-v.longest+1); i < len(b); i++ {
		for j := range v.words {
			if text := v.words[j].text; len(text) > len(b)-i && text[:len(b)-i] == string(b[i:]) {
				return i
			}
		}
	}
	return len(b)
}

// maxGrowth bounds what the values of secrets may add to one piece of a request, bytes.
const maxGrowth = 32 << 20

// replace appends b to dst, with the placeholders replaced for which value has something.
// Unless b is all there is, the end of b is left over that may be the beginning of a
// placeholder.
func (v *view) replace(dst, b []byte, all bool, value func(*word) ([]byte, bool)) (out, rest []byte, err error) {
	from, room := 0, len(dst)+len(b)+maxGrowth
	certain := v.each(b, all, func(start, end int, w *word) bool {
		text, ok := value(w)
		if !ok {
			return true
		}
		dst = append(append(dst, b[from:start]...), text...)
		from = end
		return len(dst) <= room
	})
	if err := fits(len(dst), room); err != nil {
		return dst, nil, err
	}
	return append(dst, b[from:certain]...), b[certain:], nil
}

// fits fails if n bytes, with the values of secrets, are more than room.
func fits(n, room int) error {
	if n > room {
		return malformed("with the values of its secrets it has more than %d bytes", room)
	}
	return nil
}
