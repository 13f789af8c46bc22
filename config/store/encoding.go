package store

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/klauspost/compress/s2"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	millracev1 "millrace/proto/millrace/v1"
)

// maxBytes bounds what is sealed and unsealed, before compression. A thousand targets take a
// fiftieth of it.
const maxBytes = 32 << 20

// stateMagic begins a stored State. The last byte is the form of what follows, see seal.
const stateMagic = "mrs\x01"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal writes the magic, a CRC-32C of the rest, and the payload as one s2 block, which has no
// checksum of its own.
func seal(magic string, payload []byte) ([]byte, error) {
	if len(payload) > maxBytes {
		return nil, fmt.Errorf("state takes %d bytes, more than %d: %w", len(payload), maxBytes, ErrTooLarge)
	}
	sealed := make([]byte, len(magic)+4, len(magic)+4+s2.MaxEncodedLen(len(payload)))
	copy(sealed, magic)
	block := s2.Encode(sealed[len(sealed):cap(sealed)], payload) // in place: the capacity is enough
	sealed = append(sealed, block...)
	binary.BigEndian.PutUint32(sealed[len(magic):], crc32.Checksum(block, castagnoli))
	return sealed, nil
}

// unseal checks and undoes seal.
func unseal(magic string, sealed []byte) ([]byte, error) {
	form := len(magic) - 1
	if len(sealed) < len(magic)+4 || string(sealed[:form]) != magic[:form] {
		return nil, fmt.Errorf("%w: not written by Millrace", ErrCorrupt)
	}
	if sealed[form] > magic[form] {
		return nil, newer("form", uint32(sealed[form]), uint32(magic[form]))
	}
	sum, block := binary.BigEndian.Uint32(sealed[len(magic):]), sealed[len(magic)+4:]
	if sealed[form] != magic[form] || crc32.Checksum(block, castagnoli) != sum {
		return nil, fmt.Errorf("%w: checksum does not match", ErrCorrupt)
	}
	n, err := s2.DecodedLen(block)
	if err != nil || n > maxBytes {
		return nil, fmt.Errorf("%w: impossible length", ErrCorrupt)
	}
	payload, err := s2.Decode(nil, block)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return payload, nil
}

func encodeState(state *millracev1.State) ([]byte, error) {
	payload, err := marshalState(state)
	if err != nil {
		return nil, err
	}
	return seal(stateMagic, payload)
}

func decodeState(value []byte) (*millracev1.State, error) {
	payload, err := unseal(stateMagic, value)
	if err != nil {
		return nil, err
	}
	return unmarshalState(payload)
}

// marshalState encodes the state as being of our schema version.
func marshalState(state *millracev1.State) ([]byte, error) {
	current := &millracev1.State{}
	if state != nil {
		from, to := state.ProtoReflect(), current.ProtoReflect()
		from.Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
			to.Set(field, v) // shared, not copied: we only read
			return true
		})
		to.SetUnknown(from.GetUnknown())
	}
	current.SchemaVersion = SchemaVersion
	return proto.MarshalOptions{Deterministic: true}.Marshal(current)
}

func unmarshalState(payload []byte) (*millracev1.State, error) {
	state := &millracev1.State{}
	err := proto.Unmarshal(payload, state)
	if state.SchemaVersion > SchemaVersion { // it comes first, and says more than that we do not understand what follows it
		return nil, newer("schema", state.SchemaVersion, SchemaVersion)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	migrate(state, migrations[:])
	return state, nil
}

// describe is decodeState without the documents, which are nearly all of the work.
func describe(value []byte) (*millracev1.State, error) {
	payload, err := unseal(stateMagic, value)
	if err != nil {
		return nil, err
	}
	var rest []byte
	for len(payload) > 0 {
		field, _, n := protowire.ConsumeField(payload)
		if n < 0 {
			return nil, fmt.Errorf("%w: %w", ErrCorrupt, protowire.ParseError(n))
		}
		if field != documentsField {
			rest = append(rest, payload[:n]...)
		}
		payload = payload[n:]
	}
	return unmarshalState(rest)
}

const documentsField = 2

func newer(what string, it, we uint32) error {
	return fmt.Errorf("%w (%s %d, this one knows %d): upgrade this one", ErrNewer, what, it, we)
}

// SchemaVersion is the State's own form. A change of the proto that old and new Millrace both read
// (a field added) leaves it; one that needs the stored documents rewritten adds a migration, which
// raises it.
const SchemaVersion = uint32(len(migrations))

// migrations[n] makes a State of schema n one of schema n+1.
var migrations = [...]func(*millracev1.State){
	func(*millracev1.State) {}, // 0 is a State that never said; nothing has changed since
}

// migrate takes the state through all steps that it has not been through.
func migrate(state *millracev1.State, steps []func(*millracev1.State)) {
	for int(state.SchemaVersion) < len(steps) {
		steps[state.SchemaVersion](state)
		state.SchemaVersion++
	}
}
