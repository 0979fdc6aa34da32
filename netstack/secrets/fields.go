package secrets

import (
	"bytes"
	"errors"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/http2/hpack"
)

var errTooManyFields = errors.New("too many fields")

// fields decodes the header blocks of one connection.
type fields struct {
	decoder *hpack.Decoder
	list    []hpack.HeaderField
	size    int // of list, bytes
}

func newFields() *fields {
	f := &fields{}
	f.decoder = hpack.NewDecoder(tableSize, f.add)
	f.decoder.SetMaxStringLength(maxBlock)
	return f
}

// add is called for each field of a block.
func (f *fields) add(field hpack.HeaderField) {
	f.size += int(field.Size())
	if len(f.list) <= maxFields && f.size <= maxBlock {
		f.list = append(f.list, field)
	}
}

// decode reads a header block. Its error is a *Malformed, after which no other block can
// be read.
func (f *fields) decode(block []byte) ([]hpack.HeaderField, error) {
	f.list, f.size = nil, 0
	_, err := f.decoder.Write(block)
	if err == nil {
		err = f.decoder.Close()
	}
	if err == nil && (len(f.list) > maxFields || f.size > maxBlock) {
		err = errTooManyFields
	}
	if err != nil {
		return nil, malformed("its header block cannot be read: %v", err)
	}
	list := f.list
	f.list = nil
	for _, field := range list {
		if err := checkField(field); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// checkField reports a field that RFC 9113 §8.2 forbids.
func checkField(f hpack.HeaderField) error {
	name := strings.TrimPrefix(f.Name, ":")
	for _, c := range []byte(name) {
		if !isToken(c) || c >= 'A' && c <= 'Z' {
			return malformed("the name of a header has a byte %#x", c)
		}
	}
	if name == "" || strings.ContainsAny(f.Value, "\x00\r\n") || !utf8.ValidString(f.Value) {
		return malformed("a header is malformed")
	}
	return nil
}

// sizeUpdates is the beginning of a header block that changes the size of the table,
// RFC 7541 §6.3. It must be passed on, even by an encoder that puts nothing there.
func sizeUpdates(block []byte) []byte {
	i := 0
	for i < len(block) && block[i]&0xe0 == 0x20 {
		more := block[i]&0x1f == 0x1f
		for i++; more && i < len(block); i++ {
			more = block[i]&0x80 != 0
		}
	}
	return block[:i]
}

// request checks the fields that begin a stream and says what they ask for.
func (h *http2) request(list []hpack.HeaderField) (where, error) {
	w := where{protocol: "http/2"}
	pseudo := make(map[string]string)
	regular := false
	var hosts []string
	for _, f := range list {
		if !f.IsPseudo() {
			regular = true
			if f.Name == "host" {
				hosts = append(hosts, f.Value)
			}
			continue
		}
		if _, twice := pseudo[f.Name]; twice || regular || !isRequestField(f.Name) {
			return w, malformed("its field %s is out of place", f.Name)
		}
		pseudo[f.Name] = f.Value
	}
	authority, ok := pseudo[":authority"]
	if !ok {
		return w, malformed("it has no :authority")
	}
	if _, extended := pseudo[":protocol"]; h.c.Strict && pseudo[":method"] == "CONNECT" && !extended {
		return w, malformed("it asks for a tunnel, which cannot be seen into")
	}
	w.method, w.path = clip(pseudo[":method"]), clip(pseudo[":path"])
	for _, text := range append(hosts, authority) {
		host, ok := hostOf(text)
		if !ok || h.identified() && host != h.c.Host || len(hosts) > 1 {
			return w, malformed("its authority or host is for another host than the connection")
		}
		w.host = clip(host)
	}
	return w, nil
}

func isRequestField(name string) bool {
	switch name {
	case ":method", ":scheme", ":authority", ":path", ":protocol":
		return true
	}
	return false
}

// check looks for violations in a header block.
func (h *http2) check(list []hpack.HeaderField, trailer bool, w where) error {
	var hit *found
	for _, f := range list {
		if trailer && f.IsPseudo() {
			return malformed("its trailer has the field %s", f.Name)
		}
		in, location := h.headerViolation(f.Name, []byte(f.Value))
		if f.Name == ":path" {
			in, location = h.targetViolation(f.Value)
		}
		if in != nil && stricter(hit, in) == in {
			hit, w.location = in, location
		}
	}
	if hit == nil {
		return nil
	}
	return h.refuse(hit, w)
}

// encode makes a header block of literals that nobody on the way keeps, with placeholders
// replaced unless it is a trailer.
func (h *http2) encode(updates []byte, list []hpack.HeaderField, trailer bool) ([]byte, error) {
	var b bytes.Buffer
	b.Write(updates)
	e := hpack.NewEncoder(&b)
	for _, f := range list {
		switch {
		case trailer:
		case f.Name == ":path":
			path, err := h.target(f.Value)
			if err != nil {
				return nil, err
			}
			f.Value = path
		case !f.IsPseudo():
			value, err := h.headerValue(f.Name, []byte(f.Value))
			if err != nil {
				return nil, err
			}
			f.Value = string(value)
		}
		f.Sensitive = true
		if err := e.WriteField(f); err != nil {
			return nil, err
		}
		if err := fits(b.Len(), maxBlock+maxGrowth); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}
