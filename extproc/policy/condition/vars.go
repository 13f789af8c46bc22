package condition

import (
	"fmt"
	"reflect"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// The types of the variables with fields. They are no names that an expression can use.
const (
	requestType = "millrace.Request"
	answerType  = "millrace.Answer"
)

// field is a name that expressions can use.
type field struct {
	name string
	kind *types.Type
	get  func(*Facts) any
}

var fields = map[string][]field{
	requestType: {
		{"gateway", types.StringType, func(f *Facts) any { return f.Gateway }},
		{"service", types.StringType, func(f *Facts) any { return f.Service }},
		{"key", types.StringType, func(f *Facts) any { return f.Key }},
		{"model", types.StringType, func(f *Facts) any { return f.Model }},
		{"schema", types.StringType, func(f *Facts) any { return f.Schema }},
		{"path", types.StringType, func(f *Facts) any { return f.Path }},
		{"method", types.StringType, func(f *Facts) any { return f.Method }},
		{"client_address", types.StringType, func(f *Facts) any { return f.ClientAddress }},
		{"stream", types.BoolType, func(f *Facts) any { return f.Stream }},
		{"tags", types.NewListType(types.StringType), func(f *Facts) any { return f.Tags }},
		{"headers", types.NewMapType(types.StringType, types.StringType), func(f *Facts) any { return headers{f.Headers} }},
		{"bytes", types.IntType, func(f *Facts) any { return int64(f.Bytes) }},
		{"texts", types.IntType, func(f *Facts) any { return int64(f.Texts) }},
		{"text_bytes", types.IntType, func(f *Facts) any { return int64(f.TextBytes) }},
		{"tools", types.NewListType(types.StringType), func(f *Facts) any { return f.Tools }},
		{"max_tokens", types.IntType, func(f *Facts) any { return f.MaxTokens }},
		{"time", types.TimestampType, func(f *Facts) any { return f.Time }},
	},
	answerType: {
		{"bytes", types.IntType, func(f *Facts) any { return int64(f.Answer.Bytes) }},
		{"text_bytes", types.IntType, func(f *Facts) any { return int64(f.Answer.TextBytes) }},
	},
}

// names are all of them, in one line.
func names() string {
	all := []string{"phase"}
	for _, of := range []struct{ variable, kind string }{{"request", requestType}, {"answer", answerType}} {
		for _, f := range fields[of.kind] {
			all = append(all, of.variable+"."+f.name)
		}
	}
	return strings.Join(all, ", ")
}

// activation gives the variables their values.
type activation Facts

func (a *activation) ResolveName(name string) (any, bool) {
	switch name {
	case "request", "answer":
		return (*Facts)(a), true
	case "phase":
		return a.Phase, true
	}
	return nil, false
}

func (a *activation) Parent() cel.Activation { return nil }

// provider adds the types of the variables to those of CEL. It reads fields without reflection.
type provider struct {
	types.Provider
	found map[string]map[string]*types.FieldType
}

// declare puts the provider into an environment.
func declare(env *cel.Env) (*cel.Env, error) {
	p := provider{env.CELTypeProvider(), map[string]map[string]*types.FieldType{}}
	for kind, all := range fields {
		p.found[kind] = map[string]*types.FieldType{}
		for _, f := range all {
			p.found[kind][f.name] = &types.FieldType{
				Type:  f.kind,
				IsSet: func(any) bool { return true },
				GetFrom: func(object any) (any, error) {
					facts, ok := object.(*Facts)
					if !ok {
						return nil, fmt.Errorf("%T has no %s", object, f.name)
					}
					return f.get(facts), nil
				},
			}
		}
	}
	return cel.CustomTypeProvider(p)(env)
}

func (p provider) FindStructType(name string) (*types.Type, bool) {
	if _, ours := p.found[name]; ours {
		return types.NewTypeTypeWithParam(types.NewObjectType(name)), true
	}
	return p.Provider.FindStructType(name)
}

func (p provider) FindStructFieldNames(name string) ([]string, bool) {
	if _, ours := p.found[name]; !ours {
		return p.Provider.FindStructFieldNames(name)
	}
	var all []string
	for _, f := range fields[name] {
		all = append(all, f.name)
	}
	return all, true
}

func (p provider) FindStructFieldType(name, field string) (*types.FieldType, bool) {
	if of, ours := p.found[name]; ours {
		found, ok := of[field]
		return found, ok
	}
	return p.Provider.FindStructFieldType(name, field)
}

// headers are a map of which every header is a member: one that the client has not sent is "". The
// letters of a name may be large or small. `"x-team" in request.headers` tells whether it was sent.
type headers struct{ sent map[string]string }

func (h headers) value(name ref.Val) (string, bool) {
	text, ok := name.(types.String)
	if !ok {
		return "", false
	}
	value, sent := h.sent[strings.ToLower(string(text))]
	return value, sent
}

func (h headers) Get(name ref.Val) ref.Val {
	value, _ := h.value(name)
	return types.String(value)
}

func (h headers) Contains(name ref.Val) ref.Val {
	_, sent := h.value(name)
	return types.Bool(sent)
}

// IsSet is has(request.headers.name).
func (h headers) IsSet(name ref.Val) ref.Val { return h.Contains(name) }

func (h headers) Size() ref.Val { return types.Int(len(h.sent)) }

func (h headers) Iterator() traits.Iterator { return h.plain().Iterator() }

func (h headers) Equal(other ref.Val) ref.Val {
	if o, ok := other.(headers); ok {
		other = o.plain()
	}
	return h.plain().Equal(other)
}

func (h headers) ConvertToNative(kind reflect.Type) (any, error) {
	return h.plain().ConvertToNative(kind)
}

func (h headers) ConvertToType(kind ref.Type) ref.Val { return h.plain().ConvertToType(kind) }

func (h headers) Type() ref.Type { return types.MapType }

func (h headers) Value() any { return h.sent }

// plain is the map of what was sent, and no more.
func (h headers) plain() traits.Mapper {
	return types.NewStringStringMap(types.DefaultTypeAdapter, h.sent)
}
