package texts

import (
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"millrace/schema"
)

// plan is schema.Texts as trees, one for each kind of body.
type plan struct{ request, answer, event *node }

// plans are those of all schemas; whoever has none has no texts.
var plans = compileAll()

func compileAll() map[schema.Name]plan {
	all := map[schema.Name]plan{}
	for _, s := range schema.All() {
		all[s.Name] = compile(&s.Texts)
	}
	return all
}

func compile(t *schema.Texts) plan {
	opaque := map[string]bool{}
	for _, name := range t.Opaque {
		opaque[quoted(name)] = true
	}
	request, answer, event := &node{opaque: opaque}, &node{opaque: opaque}, &node{opaque: opaque}
	request.add(t.Request)
	request.watch(t.Speaker, mark{of: speaker, speakers: t.Speakers})
	answer.add(t.Answer)
	event.add(t.Event)
	for _, n := range []*node{answer, event} {
		n.watch(t.Number, mark{of: number})
		n.watch(t.Quotes, mark{of: quotes})
	}
	event.watch(t.Part, mark{of: part})
	event.watch(t.Closed.Path, mark{of: closes, closed: t.Closed.Word})
	event.watch(t.Last.Path, mark{of: last, last: t.Last.Word})
	return plan{request, answer, event}
}

// node says what a value is, and what the values inside it are.
type node struct {
	place   *schema.TextPlace // of a string, or of JSON; nil: it is no text
	only    string            // the word that the object's type has to say for it
	members []member
	item    *node           // of a list; nil: it is skipped
	rest    *node           // of the members that are not listed; nil: they are skipped
	opaque  map[string]bool // the members that rest is not for
	mark    *mark           // what is to be noted of it for the object around it
	marks   marks           // those of members
}

// member is a member of an object, by its name in quotes.
type member struct {
	name string
	node *node
}

// mark is what a member says of the object that it is in. One may say several things: Anthropic's
// type both closes and ends.
type mark struct {
	of       marks
	speakers map[string]schema.Speaker
	closed   string
	last     string
}

type marks uint8

const (
	speaker marks = 1 << iota
	number
	part
	closes
	last
	quotes
	condition // the word that texts with a condition ask for
	signature
)

// add adds places.
func (n *node) add(places []schema.TextPlace) {
	for i := range places {
		path, only, conditional := strings.Cut(places[i].Path, "{")
		at := n.at(path)
		at.place = &places[i]
		if name := places[i].Signature; name != "" {
			around, _ := cut(path)
			n.watch(around+name, mark{of: signature})
		}
		if !conditional {
			continue
		}
		name, word, _ := strings.Cut(strings.TrimSuffix(only, "}"), "=")
		at.only = word
		around, _ := cut(path)
		n.watch(around+name, mark{of: condition})
	}
}

// watch notes what the member at the path says of the object around it.
func (n *node) watch(path string, m mark) {
	if path == "" {
		return
	}
	around, name := cut(path)
	if around != "" {
		n = n.at(strings.TrimSuffix(around, "."))
	}
	n.marks |= m.of
	at := n.child(quoted(name))
	if at.mark == nil {
		at.mark = &mark{}
	}
	at.mark.of |= m.of
	switch m.of {
	case speaker:
		at.mark.speakers = m.speakers
	case closes:
		at.mark.closed = m.closed
	case last:
		at.mark.last = m.last
	}
}

// cut parts the last step of a path from those before it, which keep their dot.
func cut(path string) (around, name string) {
	i := strings.LastIndexByte(path, '.') + 1
	return path[:i], path[i:]
}

// at is the node at a path, made where there is none.
func (n *node) at(path string) *node {
	for step := range strings.SplitSeq(path, ".") {
		name, deep := strings.CutSuffix(step, "**")
		lists := strings.Count(name, "[]")
		n = n.child(quoted(strings.TrimRight(name, "[]")))
		for range lists {
			if n.item == nil {
				n.item = &node{opaque: n.opaque}
			}
			n = n.item
		}
		if deep {
			n.item, n.rest = n, n
		}
	}
	return n
}

func (n *node) child(name string) *node {
	for _, m := range n.members {
		if m.name == name {
			return m.node
		}
	}
	child := &node{opaque: n.opaque}
	n.members = append(n.members, member{name, child})
	return child
}

// named is the node of the member, whose name is in quotes; nil where it is to be skipped.
func (n *node) named(name []byte) *node {
	for i := range n.members {
		if n.members[i].name == string(name) {
			return n.members[i].node
		}
	}
	if n.rest == nil || n.opaque[string(name)] {
		return nil
	}
	return n.rest
}

// quoted is a name as it is usually written.
func quoted(name string) string {
	q, err := jsontext.AppendQuote(nil, name)
	if err != nil {
		panic("texts: " + err.Error()) // in a row
	}
	return string(q)
}
