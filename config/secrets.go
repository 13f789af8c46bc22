package config

import (
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protopath"
	"google.golang.org/protobuf/reflect/protorange"
	"google.golang.org/protobuf/reflect/protoreflect"

	millracev1 "millrace/proto/millrace/v1"
)

// SecretFiles lists the files that a document's secrets are in, whether they are there or not.
func SecretFiles(doc *millracev1.Document) []string {
	var files []string
	_ = protorange.Range(doc.ProtoReflect(), func(at protopath.Values) error { // it returns the function's errors: none
		value := at.Index(-1).Value
		if m, ok := value.Interface().(protoreflect.Message); ok {
			if s, ok := m.Interface().(*millracev1.Secret); ok && s.GetFile() != "" {
				files = append(files, s.GetFile())
			}
		}
		return nil
	})
	return files
}

// KeepSecrets puts into next the stored secrets that it names by Redacted: whoever reads a resource, changes something and
// writes it back keeps what it was not shown. Items of lists are matched by id. The error is an Errors; it names those that
// have nothing stored.
func KeepSecrets[M proto.Message](next, stored M) error {
	v := &validation{}
	v.keepSecrets("", next.ProtoReflect(), stored.ProtoReflect())
	if len(v.found) > 0 {
		return v.found
	}
	return nil
}

// keepSecrets walks both; stored is an invalid message where there is none.
func (v *validation) keepSecrets(path string, next, stored protoreflect.Message) {
	if secret, ok := next.Interface().(*millracev1.Secret); ok {
		if secret.GetLiteral() != Redacted {
			return
		}
		kept, _ := stored.Interface().(*millracev1.Secret)
		if kept.GetLiteral() == "" {
			v.errorf(path, "%q keeps a stored secret, and there is none", Redacted)
			return
		}
		secret.Source = &millracev1.Secret_Literal{Literal: kept.GetLiteral()}
		return
	}
	next.Range(func(f protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		at := join(path, string(f.Name()))
		switch {
		case f.Message() == nil || f.IsMap() && f.MapValue().Message() == nil:
		case f.IsMap():
			value.Map().Range(func(key protoreflect.MapKey, item protoreflect.Value) bool {
				same := item.Message().Type().Zero()
				if kept := stored.Get(f).Map().Get(key); kept.IsValid() {
					same = kept.Message()
				}
				v.keepSecrets(join(at, key.String()), item.Message(), same)
				return true
			})
		case f.IsList():
			for i := range value.List().Len() {
				item := value.List().Get(i).Message()
				v.keepSecrets(fmt.Sprintf("%s[%d]", at, i), item, sameItem(stored, f, item))
			}
		default:
			v.keepSecrets(at, value.Message(), stored.Get(f).Message())
		}
		return true
	})
}

// sameItem finds the item of stored's list f that has the id of item.
func sameItem(stored protoreflect.Message, f protoreflect.FieldDescriptor, item protoreflect.Message) protoreflect.Message {
	if id := item.Descriptor().Fields().ByName("id"); id != nil && item.Get(id).String() != "" {
		list := stored.Get(f).List()
		for i := range list.Len() {
			if same := list.Get(i).Message(); same.Get(id).String() == item.Get(id).String() {
				return same
			}
		}
	}
	return item.Type().Zero()
}
