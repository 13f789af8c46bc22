package config

import (
	"slices"

	millracev1 "millrace/proto/millrace/v1"
)

// asksKey tells whether the document by itself lets in only clients with a key.
func asksKey(doc *millracev1.Document) bool {
	return doc.Gateway.Auth == authRequired || len(doc.Keys) > 0 && doc.Gateway.Auth != authNone
}

// KeysLost refuses next in the place of was when was asks for a key and next says nothing of who
// may enter. Both are loaded documents of the configuration file. Nobody can tell such an edit from
// a file that was cut, so it has to say what it means.
func KeysLost(was, next *millracev1.Document) Errors {
	if !asksKey(was) || next.Gateway.Auth != "" || len(next.Keys) > 0 {
		return nil
	}
	return Errors{{Line: 1, Column: 1, Path: "keys", Reason: "the configuration before this one asks for a key, and this one has none: " +
		"was a part of the file lost? If it is meant, write gateway.auth: none to let in anyone, or gateway.auth: required to let in nobody by this file"}}
}

// Keyed lists the gateways that have ever asked for a key and have not said auth: none since,
// sorted. documents are what Merge returned, before is the list so far.
func Keyed(documents []*millracev1.Document, before []string) []string {
	keyed := slices.Clone(before)
	for i, d := range documents {
		id := idOf(i, d)
		switch {
		case asksKey(d):
			keyed = append(keyed, id)
		case d.Gateway.Auth == authNone:
			keyed = slices.DeleteFunc(keyed, func(other string) bool { return other == id })
		}
	}
	slices.Sort(keyed)
	return slices.Compact(keyed)
}

// stayClosed makes the keyed gateways that have no key left, and do not say who may enter, ask for
// one all the same.
func stayClosed(documents []*millracev1.Document, keyed []string) {
	for i, d := range documents {
		if d.Gateway.Auth == "" && len(d.Keys) == 0 && slices.Contains(keyed, idOf(i, d)) {
			d.Gateway.Auth = authRequired
		}
	}
}

// idOf is the gateway's id in the store, where that of the file goes by its name.
func idOf(i int, d *millracev1.Document) string {
	if i == 0 {
		return d.Gateway.Name
	}
	return d.Gateway.Id
}
