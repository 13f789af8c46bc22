package config

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

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

// Elsewhere is a copy of the document for a machine that does not have its secrets: each is
// replaced by what it is known by.
func Elsewhere(doc *millracev1.Document) *millracev1.Document {
	doc = proto.CloneOf(doc)
	_ = protorange.Range(doc.ProtoReflect(), func(at protopath.Values) error { // it returns the function's errors: none
		if m, ok := at.Index(-1).Value.Interface().(protoreflect.Message); ok {
			if s, ok := m.Interface().(*millracev1.Secret); ok && s.GetLiteral() == "" {
				s.Source = &millracev1.Secret_Literal{Literal: credential{secret: s}.reference()}
			}
		}
		return nil
	})
	return doc
}

// KeepSecrets puts into next the stored secrets that it names by Redacted: whoever reads a
// resource, changes something and writes it back keeps what it was not shown. Items of lists are
// matched by id. A secret is kept only for where it was sent before: the same protocol, host and
// port, in a header of the same name. Otherwise whoever may write could have it sent to a host of
// theirs. The error is an Errors; it names the secrets that have to be sent again.
func KeepSecrets[M proto.Message](next, stored M) error {
	k := &keeper{why: "there is none"}
	k.message("", next.ProtoReflect(), stored.ProtoReflect())
	if len(k.found) > 0 {
		return k.found
	}
	return nil
}

type keeper struct {
	validation
	why    string // nothing can be kept here
	probes string // the same of an upstream's health checks; "" when their secrets can be kept
}

// message walks both; stored is an invalid message where there is none.
func (k *keeper) message(path string, next, stored protoreflect.Message) {
	defer func(why string) { k.why = why }(k.why)
	forget := func(why string) {
		if why != "" {
			k.why, stored = why, next.Type().Zero()
		}
	}
	switch m := next.Interface().(type) {
	case *millracev1.Secret:
		kept, _ := stored.Interface().(*millracev1.Secret)
		k.secret(path, m, kept)
		return
	case *millracev1.Upstream:
		was, _ := stored.Interface().(*millracev1.Upstream)
		k.probes = newAddress(m, was)
	case *millracev1.ActiveHealthCheck:
		forget(k.probes)
	case *millracev1.Target:
		was, _ := stored.Interface().(*millracev1.Target)
		forget(moved(m, was))
		was, _ = stored.Interface().(*millracev1.Target)
		k.headers(join(path, "headers"), m, was)
	case *millracev1.Credentials:
		was, _ := stored.Interface().(*millracev1.Credentials)
		if was != nil && !strings.EqualFold(m.HeaderName, was.HeaderName) {
			forget("it is stored for the header " + was.HeaderName)
		}
	}
	k.fields(path, next, stored)
}

func (k *keeper) fields(path string, next, stored protoreflect.Message) {
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
				k.message(join(at, key.String()), item.Message(), same)
				return true
			})
		case f.IsList():
			for i := range value.List().Len() {
				item := value.List().Get(i).Message()
				k.message(fmt.Sprintf("%s[%d]", at, i), item, sameItem(stored, f, item))
			}
		default:
			k.message(at, value.Message(), stored.Get(f).Message())
		}
		return true
	})
}

func (k *keeper) secret(path string, next, stored *millracev1.Secret) {
	if next.GetLiteral() != Redacted {
		return
	}
	if stored.GetLiteral() == "" {
		k.lacks(path)
		return
	}
	next.Source = &millracev1.Secret_Literal{Literal: stored.GetLiteral()}
}

// headers keeps the values of the headers that carry credentials. stored is nil where there is
// none.
func (k *keeper) headers(path string, next, stored *millracev1.Target) {
	for _, name := range slices.Sorted(maps.Keys(next.Headers)) {
		if next.Headers[name] != Redacted || !IsCredential(name) {
			continue
		}
		next.Headers[name] = ""
		for other, value := range stored.GetHeaders() {
			if strings.EqualFold(name, other) {
				next.Headers[name] = value
			}
		}
		if next.Headers[name] == "" {
			k.lacks(join(path, name))
		}
	}
}

func (k *keeper) lacks(path string) {
	k.errorf(path, "%q keeps a stored secret, and %s: send the secret again", Redacted, k.why)
}

// moved says why next must not have the secrets of was; "" when it may.
func moved(next, was *millracev1.Target) string {
	if is, before := addressOf(next), addressOf(was); was != nil && is.host != "" && is != before {
		return fmt.Sprintf("it is stored for %s, not for %s", before, is)
	}
	return ""
}

// newAddress says why next must not have the secrets that was sends to its targets with health
// checks; "" when it may.
func newAddress(next, was *millracev1.Upstream) string {
	known := map[address]bool{}
	for _, t := range was.GetTargets() {
		known[addressOf(t)] = true
	}
	for _, t := range next.Targets {
		if a := addressOf(t); a.host != "" && !known[a] {
			return fmt.Sprintf("it is stored for other targets than %s", a)
		}
	}
	return ""
}

// addressOf is where a target is, as far as a secret must not go elsewhere. A target that does not
// say has no host: it is static, or Validate refuses it.
func addressOf(t *millracev1.Target) address {
	if _, err := url.Parse(t.GetProvider().GetBaseUrl()); t == nil || err != nil {
		return address{}
	}
	_, a := place(t)
	return address{host: strings.ToLower(a.host), port: a.port, tls: a.tls}
}

func (a address) String() string {
	if a.tls {
		return "https://" + hostPort(a.host, a.port)
	}
	return "http://" + hostPort(a.host, a.port)
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
