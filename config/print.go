package config

import (
	"bytes"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	millracev1 "millrace/proto/millrace/v1"
)

// Redacted stands in place of every literal secret that is shown.
const Redacted = "[redacted]"

// Redact returns a copy of a resource or document in which no literal secret is left, credentials
// among the headers of targets included.
func Redact[M proto.Message](m M) M {
	shown := proto.CloneOf(m)
	redact(shown.ProtoReflect())
	return shown
}

func redact(m protoreflect.Message) {
	if t, ok := m.Interface().(*millracev1.Target); ok {
		for name, value := range t.Headers {
			if value != "" && IsCredential(name) {
				t.Headers[name] = Redacted
			}
		}
	}
	if s, ok := m.Interface().(*millracev1.Secret); ok {
		if _, literal := s.Source.(*millracev1.Secret_Literal); literal {
			s.Source = &millracev1.Secret_Literal{Literal: Redacted}
		}
		return
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Message() == nil || f.IsMap() && f.MapValue().Message() == nil:
		case f.IsMap():
			v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
				redact(v.Message())
				return true
			})
		case f.IsList():
			for i := range v.List().Len() {
				redact(v.List().Get(i).Message())
			}
		default:
			redact(v.Message())
		}
		return true
	})
}

// Print writes the effective document as YAML in the words it can be written in. Literal secrets
// are redacted.
func Print(doc *millracev1.Document) ([]byte, error) {
	data, err := JSON(doc)
	if err != nil {
		return nil, err
	}
	var node yaml.Node
	if err := yaml.Unmarshal(yamlSafe(data), &node); err != nil { // JSON is YAML, and nodes keep its order
		return nil, err
	}
	block(&node)
	var out bytes.Buffer
	e := yaml.NewEncoder(&out)
	e.SetIndent(2)
	if err := e.Encode(&node); err != nil {
		return nil, err
	}
	return out.Bytes(), e.Close()
}

// block takes JSON's brackets and quotes away; the encoder puts back the quotes that YAML needs.
func block(n *yaml.Node) {
	n.Style &^= yaml.FlowStyle | yaml.DoubleQuotedStyle
	for _, c := range n.Content {
		block(c)
	}
}
