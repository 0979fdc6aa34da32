package proto

import (
	"bytes"
	"errors"
	"fmt"
	"sync"

	"github.com/fxamacker/cbor/v2"
)

// ErrPayload is the class of errors about a message's payload.
var ErrPayload = errors.New("invalid message payload")

// maxElements bounds arrays and maps in a payload. A frame of MaxFrame bytes cannot hold
// more directory entries; only argument lists of one-byte strings come near.
const maxElements = 128 << 10

// The CBOR modes, built on first use so that linking this package costs no start-up time.
var (
	encMode = sync.OnceValues(func() (cbor.UserBufferEncMode, error) {
		return cbor.EncOptions{
			Sort:            cbor.SortNone, // declaration order
			NilContainers:   cbor.NilContainerAsEmpty,
			ByteArray:       cbor.ByteArrayToArray,
			BinaryMarshaler: cbor.BinaryMarshalerNone,
			IndefLength:     cbor.IndefLengthForbidden,
			TagsMd:          cbor.TagsAllowed,
		}.UserBufferEncMode()
	})
	decMode = sync.OnceValues(func() (cbor.DecMode, error) {
		return cbor.DecOptions{
			DupMapKey:         cbor.DupMapKeyEnforcedAPF,
			MaxNestedLevels:   MaxDepth,
			MaxArrayElements:  maxElements,
			MaxMapPairs:       maxElements,
			IndefLength:       cbor.IndefLengthAllowed,
			TagsMd:            cbor.TagsAllowed,
			FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
			UTF8:              cbor.UTF8RejectInvalid,
			BinaryUnmarshaler: cbor.BinaryUnmarshalerNone,
		}.DecMode()
	})
)

// defaulter is a payload with fields whose default is not the zero value.
type defaulter interface{ setDefaults() }

// Unmarshal decodes one payload into dst, a pointer to the zero value of a payload struct
// of this package. Unknown keys and trailing bytes are ignored; a missing required field,
// null for a field that is not optional, a float, a duplicate key or nesting beyond
// [MaxDepth] is an error. Errors wrap [ErrPayload]; dst may then be partly filled. The
// result shares no memory with payload.
func Unmarshal(payload []byte, dst any) error {
	if err := unmarshal(payload, dst); err != nil {
		return fmt.Errorf("%w: %w", ErrPayload, err)
	}
	return nil
}

func unmarshal(payload []byte, dst any) error {
	if d, ok := dst.(*Data); ok {
		p, err := DecodeData(payload)
		d.Data = bytes.Clone(p)
		return err
	}
	dec, err := decMode()
	if err != nil {
		return err
	}
	if err := checkShape(payload, dst); err != nil {
		return err
	}
	if d, ok := dst.(defaulter); ok {
		d.setDefaults()
	}
	_, err = dec.UnmarshalFirst(payload, dst)
	return err
}

// AppendPayload appends the CBOR form of v, a payload struct of this package or a pointer
// to one, to dst: definite lengths, fields in declaration order, shortest integers, absent
// optional values as null, nil slices as empty ones. A nil v is CBOR null. On error dst is
// returned unchanged and the error wraps [ErrPayload].
func AppendPayload(dst []byte, v any) ([]byte, error) {
	switch d := v.(type) {
	case nil:
		return append(dst, cborNull), nil
	case Data:
		return appendData(dst, d.Data), nil
	case *Data:
		return appendData(dst, d.Data), nil
	}
	enc, err := encMode()
	if err != nil {
		return dst, fmt.Errorf("%w: %w", ErrPayload, err)
	}
	buf := bytes.NewBuffer(dst)
	if err := enc.MarshalToBuffer(v, buf); err != nil {
		return dst, fmt.Errorf("%w: %w", ErrPayload, err)
	}
	return buf.Bytes(), nil
}

// marshal encodes a nested value for the MarshalCBOR methods of this package.
func marshal(v any) ([]byte, error) {
	enc, err := encMode()
	if err != nil {
		return nil, err
	}
	return enc.Marshal(v)
}

// Empty is the payload of messages that say everything by their type: init.ack, ping,
// pong, touch, tcp.connected, tcp.eof, tcp.close and tcp.closed.
type Empty struct{}

// Data is the payload of the stream messages: exec stdin, stdout, stderr, fs.data and
// tcp.data. An empty Data ends exec stdin and a file write.
type Data struct {
	Data []byte `cbor:"data"`
}

const dataKey = "data"

// dataSize is the encoded size of a Data payload of n bytes.
func dataSize(n int) int {
	return 2 + len(dataKey) + headSize(n) + n
}

func appendData(dst, p []byte) []byte {
	dst = append(dst, majorMap<<5|1, majorText<<5|byte(len(dataKey)))
	dst = append(dst, dataKey...)
	dst = appendHead(dst, majorBytes, uint64(len(p)))
	return append(dst, p...)
}

// DecodeData decodes a Data payload. The result aliases payload unless the peer wrote the
// bytes in pieces or as an array. Errors wrap [ErrPayload].
func DecodeData(payload []byte) ([]byte, error) {
	var out []byte
	found := false
	c := cursor{b: payload}
	err := c.mapEntries(MaxDepth, func(key []byte, depth int) error {
		if string(key) != dataKey {
			return c.skip(depth)
		}
		if found {
			return fmt.Errorf("key %q twice", key)
		}
		found = true
		p, err := c.bytes()
		out = p
		return err
	})
	if err == nil && !found {
		err = fmt.Errorf("key %q missing", dataKey)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPayload, err)
	}
	return out, nil
}
