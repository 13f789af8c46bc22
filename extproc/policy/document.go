package policy

import (
	"cmp"
	"slices"

	"millrace/extproc/policy/match"
	"millrace/extproc/texts"
	"millrace/internal/strictjson"
	"millrace/schema"
)

// document is a body that policies look at and change: a request, or a whole answer.
type document struct {
	schema *schema.Schema
	find   func(*schema.Schema, []byte) ([]texts.Text, error)
	body   []byte
	// put changes a text that is in no body; nil for a body's.
	put     func(i int, with string)
	several bool // it has answers side by side

	read    bool
	texts   []texts.Text
	members []strictjson.Member // nil: not read yet
	edits   map[int][]edit
	hits    [][]hit // by text, of all patterns of the chain's side; nil: not looked for yet
}

// edit puts other words into the place of a piece of a text.
type edit struct {
	from, to int
	with     string
}

// hit is a match of a pattern of a side.
type hit struct {
	match.Found
	owner
}

// Texts are those of the body, as it is now.
func (d *document) Texts() ([]texts.Text, error) {
	d.apply()
	if !d.read {
		all, err := d.find(d.schema, d.body)
		if err != nil {
			return nil, err
		}
		d.texts, d.read = all, true
	}
	return d.texts, nil
}

// Body is the body as it is now.
func (d *document) Body() []byte {
	d.apply()
	return d.body
}

// Members are those of the body, as it is now.
func (d *document) Members() ([]strictjson.Member, error) {
	d.apply()
	if d.members == nil {
		all, err := strictjson.Scan(d.body)
		if err != nil {
			return nil, err
		}
		d.members = all
	}
	return d.members, nil
}

// copied is a document of its own that says the same. d must not have edits.
func (d *document) copied() *document {
	c := &document{schema: d.schema, find: d.find, body: d.body, several: d.several, read: d.read, texts: slices.Clone(d.texts)}
	if d.put != nil {
		c.put = func(int, string) {}
	}
	return c
}

// apply makes the edits.
func (d *document) apply() {
	if len(d.edits) == 0 {
		return
	}
	with := map[int]string{}
	for i, edits := range d.edits {
		with[i] = edited(d.texts[i].Text, edits)
		if d.put != nil {
			d.texts[i].Text = with[i]
			d.put(i, with[i])
		}
	}
	if d.put != nil {
		d.edits, d.hits = nil, nil
		return
	}
	d.replace(texts.Replace(d.body, d.texts, with))
}

// replace puts another body in place.
func (d *document) replace(body []byte) {
	d.body, d.read, d.texts, d.members, d.edits, d.hits = body, false, nil, nil, nil, nil
}

func (d *document) edit(i int, e edit) {
	if d.edits == nil {
		d.edits = map[int][]edit{}
	}
	d.edits[i] = append(d.edits[i], e)
}

// look finds what the side's patterns match, in one pass over each text, unless that is known. What
// policies have changed is looked at as it is now.
func (d *document) look(s *side) ([][]hit, error) {
	if d.hits != nil {
		return d.hits, nil
	}
	all, err := d.Texts()
	if err != nil {
		return nil, err
	}
	hits := make([][]hit, len(all))
	for i := range all {
		find := s.set.Find
		if all[i].JSON {
			find = s.set.FindJSON
		}
		found, err := find(all[i].Text)
		if err != nil {
			return nil, err
		}
		hits[i] = s.hits(found)
	}
	d.hits = hits
	return hits, nil
}

func (s *side) hits(found []match.Found) []hit {
	if len(found) == 0 {
		return nil
	}
	hits := make([]hit, len(found))
	for i, f := range found {
		hits[i] = hit{f, s.owners[f.Pattern]}
	}
	return hits
}

// merged are the edits in order, those that overlap as one: the first one's words stand for all of
// them.
func merged(edits []edit) []edit {
	slices.SortStableFunc(edits, func(a, b edit) int { return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(b.to, a.to)) })
	var all []edit
	for _, e := range edits {
		if n := len(all); n > 0 && e.from < all[n-1].to {
			all[n-1].to = max(all[n-1].to, e.to)
			continue
		}
		all = append(all, e)
	}
	return all
}

// edited is a text with its edits, which need not be in order.
func edited(text string, edits []edit) string {
	return string(appendEdited(nil, text, 0, len(text), merged(edits)))
}

// appendEdited appends a piece of the text with its edits, which are merged. The words of one that
// begins before the piece are not in it.
func appendEdited(dst []byte, text string, from, to int, edits []edit) []byte {
	at := from
	for _, e := range edits {
		if e.to <= from && e.from < from || e.from >= to && (e.from > to || to < len(text)) {
			continue
		}
		if e.from >= from {
			dst = append(dst, text[at:e.from]...)
			dst = append(dst, e.with...)
		}
		at = min(e.to, to)
	}
	return append(dst, text[at:to]...)
}
