// Package strictjson reads and patches one JSON object without rebuilding it. Reading is strict:
// duplicate names at any depth, invalid UTF-8, lone surrogates and anything behind the object are
// errors, because two parsers that disagree about a body are a way around a policy. Patching leaves
// every byte that it was not told to change.
package strictjson

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Member is one member of the top-level object, as byte offsets into the body: the name's opening
// quote, the value's first byte, and the byte behind the value.
type Member struct {
	Name              string
	Start, Value, End int
}

// Scan checks body and returns the members of its object in order. The error says what was wrong
// and where (a JSON pointer and a byte offset), quotes nothing but names, and is safe to show to
// the client.
func Scan(body []byte) ([]Member, error) {
	d := jsontext.NewDecoder(bytes.NewBuffer(body))
	switch kind := d.PeekKind(); kind {
	case '{':
	case 0:
		_, err := d.ReadToken()
		return nil, explain(err)
	default:
		return nil, fmt.Errorf("want a JSON object, got %s", kind)
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, explain(err)
	}
	members := make([]Member, 0, 16)
	for d.PeekKind() != '}' {
		quoted, err := d.ReadValue()
		if err != nil {
			return nil, explain(err)
		}
		start := int(d.InputOffset()) - len(quoted)
		name, err := unquote(quoted)
		if err != nil {
			return nil, explain(err)
		}
		value, err := d.ReadValue()
		if err != nil {
			return nil, explain(err)
		}
		end := int(d.InputOffset())
		members = append(members, Member{Name: name, Start: start, Value: end - len(value), End: end})
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, explain(err)
	}
	switch _, err := d.ReadToken(); {
	case err == nil:
		return nil, errors.New("more than one JSON value")
	case !errors.Is(err, io.EOF):
		return nil, explain(err)
	}
	return members, nil
}

// unquote returns a name. Almost none has an escape.
func unquote(quoted []byte) (string, error) {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return string(quoted[1 : len(quoted)-1]), nil
	}
	name, err := jsontext.AppendUnquote(nil, quoted)
	return string(name), err
}

// explain words a decoder's error for the client: its own text without the package's name.
func explain(err error) error {
	if errors.Is(err, io.EOF) {
		return errors.New("empty body")
	}
	var syntax *jsontext.SyntacticError
	if !errors.As(err, &syntax) {
		return err
	}
	what := syntax.Err
	switch {
	case errors.Is(what, jsontext.ErrDuplicateName):
		what = fmt.Errorf("duplicate name %q", syntax.JSONPointer.LastToken())
	case errors.Is(what, io.ErrUnexpectedEOF):
		what = errors.New("the body ends in the middle of a value")
	}
	where := string(syntax.JSONPointer)
	switch {
	case where == "":
		where = "the top level"
	case len(where) > 200: // as deep or as long as the client likes
		where = strings.ToValidUTF8(where[:200], "") + "…"
	}
	return fmt.Errorf("%w, in %s at byte %d", what, where, syntax.ByteOffset)
}

// Patch collects changes to one scanned body. The zero value is not usable; see NewPatch.
type Patch struct {
	body    []byte
	members []Member
	edits   map[string]edit
	added   []string // names in edits that the body does not have, in the order they came
}

type edit struct {
	value  []byte
	remove bool
}

// NewPatch starts a patch of body, whose members Scan returned. Neither is changed.
func NewPatch(body []byte, members []Member) *Patch {
	return &Patch{body: body, members: members}
}

// Get returns the raw value of a member as it is in the body, nil when there is none. It does not
// see the patch's edits.
func (p *Patch) Get(name string) []byte {
	for _, m := range p.members {
		if m.Name == name {
			return p.body[m.Value:m.End]
		}
	}
	return nil
}

// Set replaces the value of the member, or adds the member behind the last one. value must be valid
// JSON.
func (p *Patch) Set(name string, value []byte) {
	if p.Get(name) == nil {
		if _, again := p.edits[name]; !again {
			p.added = append(p.added, name)
		}
	}
	p.edit(name, edit{value: value})
}

// Remove takes the member out, with the comma and the white space that belonged to it.
func (p *Patch) Remove(name string) { p.edit(name, edit{remove: true}) }

func (p *Patch) edit(name string, e edit) {
	if p.edits == nil {
		p.edits = make(map[string]edit, 4)
	}
	p.edits[name] = e
}

// Bytes returns the patched body; the body itself when there is nothing to change.
func (p *Patch) Bytes() []byte {
	if len(p.edits) == 0 {
		return p.body
	}
	size := len(p.body)
	for name, e := range p.edits {
		size += len(name) + len(e.value) + 4
	}
	out := make([]byte, 0, size)
	open := bytes.IndexByte(p.body, '{') + 1
	out = append(out, p.body[:open]...)
	from, written := open, 0 // from: the first byte not yet copied or left out
	for _, m := range p.members {
		e, edited := p.edits[m.Name]
		if e.remove {
			from = m.End
			continue
		}
		lead := p.body[from:m.Start] // comma and white space before the member
		if written == 0 {
			lead = bytes.TrimPrefix(bytes.TrimLeft(lead, " \t\r\n"), []byte(","))
			if from == open {
				lead = p.body[from:m.Start]
			}
		}
		out = append(out, lead...)
		out = append(out, p.body[m.Start:m.Value]...)
		if edited {
			out = append(out, e.value...)
		} else {
			out = append(out, p.body[m.Value:m.End]...)
		}
		from = m.End
		written++
	}
	for _, name := range p.added {
		e := p.edits[name]
		if e.remove {
			continue
		}
		if written > 0 {
			out = append(out, ',')
		}
		quoted, err := jsontext.AppendQuote(nil, name)
		if err != nil {
			panic("strictjson: member name is not UTF-8: " + name)
		}
		out = append(append(append(out, quoted...), ':'), e.value...)
		written++
	}
	return append(out, p.body[from:]...)
}
