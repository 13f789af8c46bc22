package admin

import (
	"cmp"
	"maps"
	"slices"
	"strconv"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/structpb"

	"millrace/config"
	millracev1 "millrace/proto/millrace/v1"
)

// diff lists what is different in two sets of documents, one gateway after the other. That a secret
// changed is told, what it is is not.
func diff(from, to []*millracev1.Document) []*millracev1.Difference {
	d := &differ{}
	d.lists("gateways", documentItems(from), documentItems(to))
	return d.found
}

type differ struct{ found []*millracev1.Difference }

// item is one message of a list.
type item struct {
	id      string // what tells it from the others
	label   string // what people call it
	message protoreflect.Message
}

func documentItems(all []*millracev1.Document) []item {
	var items []item
	for _, d := range all {
		items = append(items, item{d.GetGateway().GetId(), cmp.Or(d.GetGateway().GetName(), d.GetGateway().GetId()), d.ProtoReflect()})
	}
	return items
}

func listItems(l protoreflect.List) []item {
	var items []item
	for i := range l.Len() {
		m := l.Get(i).Message()
		id, name := textField(m, "id"), textField(m, "name")
		if p, ok := m.Interface().(*millracev1.Pack); ok { // a name has several versions
			name = config.PackVersion(p)
		}
		items = append(items, item{cmp.Or(id, name, strconv.Itoa(i)), cmp.Or(name, id, strconv.Itoa(i)), m})
	}
	return items
}

func textField(m protoreflect.Message, name protoreflect.Name) string {
	if f := m.Descriptor().Fields().ByName(name); f != nil {
		return m.Get(f).String()
	}
	return ""
}

func (d *differ) lists(path string, from, to []item) {
	in := func(items []item, id string) int {
		return slices.IndexFunc(items, func(i item) bool { return i.id == id })
	}
	for _, was := range from {
		at := path + "[" + was.label + "]"
		if i := in(to, was.id); i >= 0 {
			d.messages(at, was.message, to[i].message)
		} else {
			d.add(at, shownValue(was.message), nil)
		}
	}
	for _, is := range to {
		if in(from, is.id) < 0 {
			d.add(path+"["+is.label+"]", nil, shownValue(is.message))
		}
	}
}

func (d *differ) messages(path string, from, to protoreflect.Message) {
	if proto.Equal(from.Interface(), to.Interface()) {
		return
	}
	if whole(from) {
		d.add(path, shownValue(from), shownValue(to))
		return
	}
	fields := from.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		at := path + "." + string(f.Name())
		switch {
		case f.IsList() && f.Message() != nil:
			d.lists(at, listItems(from.Get(f).List()), listItems(to.Get(f).List()))
		case f.IsMap():
			d.maps(at, f, from.Get(f).Map(), to.Get(f).Map())
		case f.Message() != nil && from.Has(f) && to.Has(f):
			d.messages(at, from.Get(f).Message(), to.Get(f).Message())
		case !from.Get(f).Equal(to.Get(f)) || from.Has(f) != to.Has(f):
			d.add(at, fieldValue(f, from), fieldValue(f, to))
		}
	}
}

func (d *differ) maps(path string, f protoreflect.FieldDescriptor, from, to protoreflect.Map) {
	keys := map[string]protoreflect.MapKey{}
	for _, m := range []protoreflect.Map{from, to} {
		m.Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
			keys[k.String()] = k
			return true
		})
	}
	value := func(m protoreflect.Map, k protoreflect.MapKey) *structpb.Value {
		if !m.Has(k) {
			return nil
		}
		if f.FullName() == headersField && config.IsCredential(k.String()) {
			return structpb.NewStringValue(config.Redacted)
		}
		return oneValue(f.MapValue(), m.Get(k))
	}
	for _, name := range slices.Sorted(maps.Keys(keys)) {
		k := keys[name]
		if !from.Has(k) || !to.Has(k) || !from.Get(k).Equal(to.Get(k)) {
			d.add(path+"["+name+"]", value(from, k), value(to, k))
		}
	}
}

func (d *differ) add(path string, from, to *structpb.Value) {
	d.found = append(d.found, &millracev1.Difference{Path: path, From: from, To: to})
}

// whole tells whether a message is one value to the reader.
func whole(m protoreflect.Message) bool {
	switch m.Interface().(type) {
	case *millracev1.Secret, *millracev1.Bytes:
		return true
	}
	return m.Descriptor().ParentFile().Package() == "google.protobuf"
}

func fieldValue(f protoreflect.FieldDescriptor, m protoreflect.Message) *structpb.Value {
	if !m.Has(f) {
		return nil
	}
	if f.FullName() == hashField {
		return structpb.NewStringValue(config.Redacted)
	}
	if !f.IsList() {
		return oneValue(f, m.Get(f))
	}
	list := &structpb.ListValue{}
	for i := range m.Get(f).List().Len() {
		list.Values = append(list.Values, oneValue(f, m.Get(f).List().Get(i)))
	}
	return structpb.NewListValue(list)
}

// hashField is shown to nobody, and of headersField what is no credential.
var (
	hashField    = (&millracev1.Key{}).ProtoReflect().Descriptor().Fields().ByName("hash").FullName()
	headersField = (&millracev1.Target{}).ProtoReflect().Descriptor().Fields().ByName("headers").FullName()
)

func oneValue(f protoreflect.FieldDescriptor, v protoreflect.Value) *structpb.Value {
	switch f.Kind() {
	case protoreflect.MessageKind:
		return shownValue(v.Message())
	case protoreflect.BoolKind:
		return structpb.NewBoolValue(v.Bool())
	case protoreflect.Uint32Kind, protoreflect.Uint64Kind:
		return structpb.NewNumberValue(float64(v.Uint()))
	default:
		return structpb.NewStringValue(v.String())
	}
}

// shownValue is a message as it may be shown.
func shownValue(m protoreflect.Message) *structpb.Value {
	data, err := config.JSON(show(m.Interface()))
	if err != nil {
		panic("admin: a stored message has no JSON: " + err.Error())
	}
	v := &structpb.Value{}
	if err := protojson.Unmarshal(data, v); err != nil {
		panic("admin: our JSON cannot be read: " + err.Error())
	}
	return v
}
