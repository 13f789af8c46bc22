package config

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	millracev1 "millrace/proto/millrace/v1"
)

// JSON writes a message in the words it can be written in: names as in the proto, plain values for
// providers, sizes and literal secrets. It shows no secret (Redact). Of resources it shows what is
// set, of every other message all.
func JSON(m proto.Message) ([]byte, error) {
	var out bytes.Buffer
	e := jsontext.NewEncoder(&out)
	if err := encode(e, Redact(m).ProtoReflect()); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

func encode(e *jsontext.Encoder, m protoreflect.Message) error {
	switch short := m.Interface().(type) {
	case *millracev1.Bytes:
		return e.WriteToken(jsontext.String(formatBytes(short.GetBytes())))
	case *millracev1.Secret:
		if literal, ok := short.GetSource().(*millracev1.Secret_Literal); ok {
			return e.WriteToken(jsontext.String(literal.Literal))
		}
	case *millracev1.Provider:
		if short.GetName() != "" && proto.Equal(short, &millracev1.Provider{Name: short.Name}) {
			return e.WriteToken(jsontext.String(short.Name))
		}
	}
	if m.Descriptor().ParentFile().Package() == "google.protobuf" {
		data, err := protojson.Marshal(m.Interface())
		if err != nil {
			return err
		}
		return e.WriteValue(data)
	}
	if err := e.WriteToken(jsontext.BeginObject); err != nil {
		return err
	}
	onlySet := m.Descriptor().ParentFile().Path() == millracev1.File_millrace_v1_config_proto.Path()
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if !m.Has(f) && (onlySet || f.HasPresence()) {
			continue
		}
		if err := e.WriteToken(jsontext.String(string(f.Name()))); err != nil {
			return err
		}
		if err := encodeField(e, f, m.Get(f)); err != nil {
			return err
		}
	}
	return e.WriteToken(jsontext.EndObject)
}

func encodeField(e *jsontext.Encoder, f protoreflect.FieldDescriptor, v protoreflect.Value) error {
	switch {
	case f.IsMap():
		entries := map[string]protoreflect.Value{}
		v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
			entries[k.String()] = v
			return true
		})
		if err := e.WriteToken(jsontext.BeginObject); err != nil {
			return err
		}
		for _, key := range slices.Sorted(maps.Keys(entries)) {
			if err := e.WriteToken(jsontext.String(key)); err != nil {
				return err
			}
			if err := encodeOne(e, f.MapValue(), entries[key]); err != nil {
				return err
			}
		}
		return e.WriteToken(jsontext.EndObject)
	case f.IsList():
		if err := e.WriteToken(jsontext.BeginArray); err != nil {
			return err
		}
		for i := range v.List().Len() {
			if err := encodeOne(e, f, v.List().Get(i)); err != nil {
				return err
			}
		}
		return e.WriteToken(jsontext.EndArray)
	default:
		return encodeOne(e, f, v)
	}
}

func encodeOne(e *jsontext.Encoder, f protoreflect.FieldDescriptor, v protoreflect.Value) error {
	switch f.Kind() {
	case protoreflect.MessageKind:
		return encode(e, v.Message())
	case protoreflect.StringKind:
		return e.WriteToken(jsontext.String(v.String()))
	case protoreflect.BoolKind:
		return e.WriteToken(jsontext.Bool(v.Bool()))
	case protoreflect.Uint32Kind, protoreflect.Uint64Kind:
		return e.WriteToken(jsontext.Uint(v.Uint()))
	case protoreflect.DoubleKind:
		return e.WriteToken(jsontext.Float(v.Float()))
	default:
		return fmt.Errorf("no JSON for %s", f.FullName()) // a kind that no proto of ours has
	}
}
