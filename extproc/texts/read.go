package texts

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"millrace/extproc/llm"
	"millrace/schema"
)

// reader reads one body after another.
type reader struct {
	decoder *jsontext.Decoder
	buffer  bytes.Buffer
	body    []byte
	scratch []byte // of what is unquoted
	found   InEvent
	pending []pending
	dropped bool // some of what was found is none
}

// pending is a text that may be none: its object's type has yet to say the word.
type pending struct {
	text int
	word string
}

// readers are those that nobody uses: a decoder costs more than to read an event with it.
var readers = sync.Pool{New: func() any {
	r := &reader{}
	r.decoder = jsontext.NewDecoder(&r.buffer, lenient...)
	return r
}}

// maxKept bounds what an unused reader may hold on to: bytes and pending texts.
const maxKept = 64 << 10

var lenient = []jsontext.Options{jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)}

// event is read, but for data that is no JSON by right.
func event(n *node, end string, data []byte) (InEvent, error) {
	switch word := bytes.TrimSpace(data); {
	case len(word) == 0:
		return InEvent{}, nil
	case string(word) == end:
		return InEvent{Last: true}, nil
	}
	return read(n, data)
}

// read finds what the tree says, in the order of the body.
func read(n *node, body []byte) (InEvent, error) {
	if n == nil {
		return InEvent{}, nil
	}
	r := readers.Get().(*reader)
	r.buffer, r.body = *bytes.NewBuffer(body), body
	r.decoder.Reset(&r.buffer, lenient...)
	err := r.whole(n)
	if err == nil {
		r.decode()
	}
	found := r.found
	r.buffer, r.body, r.found, r.pending, r.dropped = bytes.Buffer{}, nil, InEvent{}, r.pending[:0], false
	r.decoder.Reset(&r.buffer, lenient...)
	if cap(r.scratch)+cap(r.pending) < maxKept {
		readers.Put(r)
	}
	if err != nil {
		return InEvent{}, fmt.Errorf("find texts: %w", err)
	}
	return found, nil
}

var errMore = errors.New("more than one JSON value")

func (r *reader) whole(n *node) error {
	if err := r.value(n); err != nil {
		return err
	}
	switch _, err := r.decoder.ReadToken(); {
	case errors.Is(err, io.EOF):
		return nil
	case err == nil:
		return errMore
	default:
		return err
	}
}

// value reads the value that comes next.
func (r *reader) value(n *node) error {
	kind := r.decoder.PeekKind()
	if n.place != nil && r.takes(n, kind) {
		return r.text(n, kind)
	}
	switch {
	case kind == jsontext.KindBeginObject && (n.members != nil || n.rest != nil):
		return r.object(n)
	case kind == jsontext.KindBeginArray && n.item != nil:
		return r.list(n.item)
	}
	return r.decoder.SkipValue()
}

// takes tells whether a value of the kind is a text at the node.
func (r *reader) takes(n *node, kind jsontext.Kind) bool {
	switch {
	case kind == jsontext.KindString:
		return true
	case n.place.Form == schema.QuotedJSON:
		return kind == jsontext.KindBeginObject
	default:
		return n.place.Form == schema.ValueJSON && kind != jsontext.KindNull
	}
}

func (r *reader) list(n *node) error {
	if _, err := r.decoder.ReadToken(); err != nil {
		return err
	}
	for r.decoder.PeekKind() != jsontext.KindEndArray {
		if err := r.value(n); err != nil {
			return err
		}
	}
	_, err := r.decoder.ReadToken()
	return err
}

// raw is the value that comes next, as a piece of the body.
func (r *reader) raw() (span, error) {
	v, err := r.decoder.ReadValue()
	if err != nil {
		return span{}, err
	}
	end := int(r.decoder.InputOffset())
	return span{end - len(v), end}, nil
}

// text notes a text. Its words wait for decode.
func (r *reader) text(n *node, kind jsontext.Kind) error {
	value, err := r.raw()
	if err != nil {
		return err
	}
	p := n.place
	t := Text{Role: llm.Role(p.Role), Kind: p.Kind, JSON: p.Form != schema.PlainText, value: value}
	t.Channel.Part = p.Part
	t.bare = p.Form == schema.ValueJSON || kind != jsontext.KindString
	t.object = t.bare && p.Form == schema.QuotedJSON
	raw := r.body[value.from:value.to]
	switch {
	case !t.bare && len(raw) == len(`""`), t.bare && kind == jsontext.KindBeginObject && len(bytes.TrimSpace(raw[1:len(raw)-1])) == 0:
		return nil
	case len(r.found.Texts) == maxTexts:
		return ErrTooMany
	}
	if n.only != "" {
		r.pending = append(r.pending, pending{len(r.found.Texts), n.only})
	}
	r.found.Texts = append(r.found.Texts, t)
	return nil
}

// object is what the members of one object have said of it.
type object struct {
	marks   marks // those that have been seen
	from    int   // its first text
	pending int   // its first text that may be none
	who     schema.Speaker
	number  int
	part    int
	word    span // the value of its type
	closes  bool
	quotes  span

	signature  span
	signatures int // the first one in it
}

func (r *reader) object(n *node) error {
	if _, err := r.decoder.ReadToken(); err != nil {
		return err
	}
	o := object{from: len(r.found.Texts), pending: len(r.pending), signatures: len(r.found.Signatures)}
	for r.decoder.PeekKind() == jsontext.KindString {
		name, err := r.decoder.ReadValue()
		if err != nil {
			return err
		}
		if bytes.IndexByte(name, '\\') >= 0 {
			name = r.plain(name)
		}
		next := n.named(name)
		switch {
		case next == nil:
			err = r.decoder.SkipValue()
		case next.mark != nil:
			err = r.note(next.mark, &o)
		default:
			err = r.value(next)
		}
		if err != nil {
			return err
		}
	}
	if _, err := r.decoder.ReadToken(); err != nil {
		return err
	}
	r.settle(n, &o)
	return nil
}

// plain is a name that was written with escapes as it is usually written.
func (r *reader) plain(name []byte) []byte {
	text, _ := jsontext.AppendUnquote(nil, name)
	r.scratch, _ = jsontext.AppendQuote(r.scratch[:0], text)
	return r.scratch
}

// note reads what a member says of its object.
func (r *reader) note(m *mark, o *object) error {
	kind := r.decoder.PeekKind()
	value, err := r.raw()
	if err != nil {
		return err
	}
	raw := r.body[value.from:value.to]
	var word []byte
	switch kind {
	case jsontext.KindString:
		r.scratch, _ = jsontext.AppendUnquote(r.scratch[:0], raw)
		word = r.scratch
	case jsontext.KindTrue:
		word = raw
	}
	o.marks |= m.of
	if m.of&speaker != 0 {
		o.who = m.speakers[string(word)]
	}
	if m.of&number != 0 {
		o.number = integer(kind, raw)
	}
	if m.of&part != 0 {
		o.part = integer(kind, raw)
	}
	if m.of&closes != 0 {
		o.closes = says(word, m.closed)
	}
	if m.of&last != 0 {
		r.found.Last = says(word, m.last)
	}
	if m.of&quotes != 0 && kind != jsontext.KindNull {
		o.quotes = value
	}
	if m.of&condition != 0 {
		o.word = value
	}
	if m.of&signature != 0 && len(word) > 0 {
		o.signature = value
	}
	return nil
}

// says tells whether a member has the word that a schema.Mark wants.
func says(word []byte, wanted string) bool {
	return len(word) > 0 && (wanted == "" || wanted == string(word))
}

// integer reads an index as providers write it: what is none is 0.
func integer(kind jsontext.Kind, raw []byte) int {
	if kind != jsontext.KindNumber {
		return 0
	}
	n, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil {
		f, err := strconv.ParseFloat(string(raw), 64)
		if err != nil || f < 0 || f >= 1<<53 {
			return 0
		}
		n = int64(f)
	}
	return int(max(n, 0))
}

// settle tells an object's texts what its members have said, wherever they stood.
func (r *reader) settle(n *node, o *object) {
	if len(r.pending) > o.pending {
		r.decide(o)
	}
	if o.signature.to > 0 {
		r.found.Signatures = append(r.found.Signatures, Signature{After: len(r.found.Texts), value: o.signature})
	}
	from := o.from
	if o.marks&^condition == 0 { // below ** a text has any number of objects around it
		from = len(r.found.Texts)
	}
	for i := from; i < len(r.found.Texts); i++ {
		t := &r.found.Texts[i]
		if o.marks&speaker != 0 && t.Role == "" {
			t.Role = llm.Role(o.who.Role)
			if t.Kind == Said {
				t.Kind = o.who.Kind
			}
		}
		if o.marks&part != 0 {
			t.Channel.Part = o.part
		}
		if o.marks&number != 0 {
			t.Channel.Choice = o.number
		}
		if o.quotes.to > 0 {
			t.quotes = o.quotes
		}
		if o.signature.to > 0 {
			t.signature = o.signature
		}
	}
	if o.marks&number != 0 {
		for i := range r.found.Signatures[o.signatures:] {
			r.found.Signatures[o.signatures+i].Choice = o.number
		}
	}
	if n.marks&number != 0 && (o.marks&number != 0 || len(r.found.Texts) > o.from || o.closes) {
		r.found.Opens = append(r.found.Opens, o.number)
		if o.closes {
			r.found.Closes = append(r.found.Closes, o.number)
		}
	}
}

// decide drops the object's texts whose condition does not hold.
func (r *reader) decide(o *object) {
	r.scratch, _ = jsontext.AppendUnquote(r.scratch[:0], r.body[o.word.from:o.word.to])
	for _, p := range r.pending[o.pending:] {
		if p.word != string(r.scratch) {
			r.found.Texts[p.text].value, r.dropped = span{}, true
		}
	}
	r.pending = r.pending[:o.pending]
}

// decode makes the words of what was found, all of them in one string.
func (r *reader) decode() {
	if r.dropped {
		at, gone := 0, 0
		for i := range r.found.Signatures {
			s := &r.found.Signatures[i]
			for ; at < s.After; at++ {
				if r.found.Texts[at].value == (span{}) {
					gone++
				}
			}
			s.After -= gone
		}
		r.found.Texts = slices.DeleteFunc(r.found.Texts, func(t Text) bool { return t.value == span{} })
	}
	texts := r.found.Texts
	if len(texts) == 0 {
		return
	}
	size := 0
	for i := range texts {
		size += texts[i].value.to - texts[i].value.from
	}
	var words strings.Builder
	words.Grow(size)
	for i := range texts {
		t := &texts[i]
		from := words.Len()
		r.write(&words, t)
		t.Text = words.String()[from:]
		t.Channel.Kind = t.Kind
		if t.Role == "" {
			t.Role = llm.User
		}
	}
}

func (r *reader) write(words *strings.Builder, t *Text) {
	raw := r.body[t.value.from:t.value.to]
	if !t.bare {
		if bytes.IndexByte(raw, '\\') < 0 && utf8.Valid(raw) {
			words.Write(raw[1 : len(raw)-1])
			return
		}
		r.scratch, _ = jsontext.AppendUnquote(r.scratch[:0], raw)
		words.Write(r.scratch)
		return
	}
	if !utf8.Valid(raw) {
		raw = bytes.ToValidUTF8(raw, []byte("\uFFFD"))
	}
	words.Write(raw)
}
