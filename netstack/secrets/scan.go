package secrets

import (
	"bytes"
	"slices"
)

// The forms in which a placeholder is recognised.
const (
	formRaw     = "raw"
	formPercent = "percent_decoded"
	formJSON    = "json_unescaped"
	formBasic   = "basic_auth_decoded"
)

// found is a placeholder that must not be where it is.
type found struct {
	word *word
	form string
}

// stricter is the one of two that has the more serious consequence; a wins ties.
func stricter(a, b *found) *found {
	if a == nil || b != nil && b.severity() > a.severity() {
		return b
	}
	return a
}

func (f *found) severity() int {
	if f.word.use == violate {
		return f.word.action.severity()
	}
	return -1
}

// find looks in all of b for violations, in every form.
func (v *view) find(b []byte) *found {
	s := scanner{view: v}
	return s.scan(b, true)
}

// scanner looks for placeholders in a stream.
type scanner struct {
	view *view
	// bodies makes it also an offence if a placeholder shows that belongs into a body,
	// because this one cannot be rewritten.
	bodies bool

	tail []byte // the end of what came before
}

// needed reports that there is something to look for.
func (s *scanner) needed() bool { return s.view.violates || s.bodies && s.view.injects.Body }

// scan looks at p, which follows what it has seen, for what completes in it. end says that
// nothing follows.
func (s *scanner) scan(p []byte, end bool) *found {
	if !s.needed() {
		return nil
	}
	b, mark := p, len(s.tail)
	if mark > 0 {
		b = slices.Concat(s.tail, p)
	}
	hit := s.search(b, mark, end, formRaw)
	if bytes.IndexByte(b, '%') >= 0 {
		hit = stricter(hit, s.decoded(percentDecode, b, mark, end, formPercent))
	}
	if bytes.IndexByte(b, '\\') >= 0 {
		hit = stricter(hit, s.decoded(jsonUnescape, b, mark, end, formJSON))
	}
	if !end {
		window := 6*s.view.longest - 1 // the longest form is \uXXXX for each byte
		s.tail = append(s.tail[:0], b[max(0, len(b)-window):]...)
	}
	return hit
}

func (s *scanner) decoded(d decoder, b []byte, mark int, end bool, form string) *found {
	text, seen := d(make([]byte, 0, len(b)), b, mark)
	return s.search(text, seen, end, form)
}

// search looks for what ends at mark or after it.
func (s *scanner) search(b []byte, mark int, all bool, form string) (hit *found) {
	s.view.each(b, all, func(_, end int, w *word) bool {
		if end >= mark && s.offends(w, form) {
			hit = stricter(hit, &found{w, form})
		}
		return true
	})
	return hit
}

func (s *scanner) offends(w *word, form string) bool {
	if w.use == substitute {
		return s.bodies && form == formRaw && w.secret.Injection.Body
	}
	return w.use == violate
}

// findIn is find in a text.
func (v *view) findIn(text string) *found { return v.find([]byte(text)) }
