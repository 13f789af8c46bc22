package config

import (
	"os"
	"slices"
	"testing"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"

	millracev1 "millrace/proto/millrace/v1"
)

// TestEveryOption: examples/every-option.yaml is right, and no option is missing in it.
func TestEveryOption(t *testing.T) {
	data, err := os.ReadFile("../examples/every-option.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Load("every-option.yaml", data); err != nil {
		t.Fatal(err)
	}
	var written map[string]any
	if err := yaml.Unmarshal(data, &written); err != nil {
		t.Fatal(err)
	}
	there := map[protoreflect.FullName]bool{}
	collect(there, (&millracev1.Document{}).ProtoReflect().Descriptor(), written)
	// The short form stands for the long one, ids are given, and what this version does not do is
	// refused (NotYet) or has no effect and a warning (Doubtful).
	known := []string{"Document.providers", "Providers.targets", "Gateway.id", "Upstream.id", "Service.id", "Service.upstream_id", "Rule.id",
		"Rule.service_id", "Key.id", "Bytes.bytes", "Secret.literal",
		"Streaming.buffer_size", "ConnectionPool.max_idle_per_host",
		"Key.limits"}
	for _, m := range messages((&millracev1.Document{}).ProtoReflect().Descriptor(), nil) {
		for i := range m.Fields().Len() {
			f := m.Fields().Get(i)
			if name := string(m.Name() + "." + f.Name()); !there[f.FullName()] && !slices.Contains(known, name) {
				t.Errorf("%s is missing", name)
			}
		}
	}
}

// collect notes the fields of m that are written.
func collect(there map[protoreflect.FullName]bool, m protoreflect.MessageDescriptor, written any) {
	fields, ok := written.(map[string]any)
	if !ok { // a scalar form
		return
	}
	for name, value := range fields {
		f := m.Fields().ByName(protoreflect.Name(name))
		if f == nil {
			continue
		}
		there[f.FullName()] = true
		of := f.Message()
		if f.IsMap() {
			of = f.MapValue().Message()
		}
		if of == nil {
			continue
		}
		values := []any{value}
		if list, ok := value.([]any); ok {
			values = list
		}
		if entries, ok := value.(map[string]any); ok && f.IsMap() {
			values = nil
			for _, v := range entries {
				values = append(values, v)
			}
		}
		for _, v := range values {
			collect(there, of, v)
		}
	}
}

// messages are m and all of ours that it is made of.
func messages(m protoreflect.MessageDescriptor, seen []protoreflect.MessageDescriptor) []protoreflect.MessageDescriptor {
	if m.ParentFile().Package() != "millrace.v1" || m.IsMapEntry() || slices.Contains(seen, m) {
		return seen
	}
	seen = append(seen, m)
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		if f.IsMap() {
			f = f.MapValue()
		}
		if f.Message() != nil {
			seen = messages(f.Message(), seen)
		}
	}
	return seen
}
