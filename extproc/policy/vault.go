package policy

import (
	"sync"

	"github.com/go-json-experiment/json/jsontext"

	"millrace/extproc/policy/detect"
	"millrace/extproc/policy/match"
	"millrace/extproc/texts"
)

// vault is what has been taken out of one request and its answer, and what stands in its place: one
// value is always the same words. It is in memory only, as long as the request.
type vault struct {
	mu       sync.Mutex
	words    map[string]string // by category and value
	original map[string]string // by words
	count    map[string]int    // of values, by category
}

// placeholder is what stands for a value of the category.
func (v *vault) placeholder(category, value string) string {
	v.mu.Lock()
	defer v.mu.Unlock()
	key := category + "\x00" + value
	if words, there := v.words[key]; there {
		return words
	}
	if v.words == nil {
		v.words, v.original, v.count = map[string]string{}, map[string]string{}, map[string]int{}
	}
	v.count[category]++
	words := detect.Placeholder(category, v.count[category])
	v.words[key], v.original[words] = words, value
	return words
}

// restore is the value that the words stand for; "" where nothing has been taken out for them.
func (v *vault) restore(words string) string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.original[words]
}

// instead is what takes the place of a hit in the text, as the text needs it.
func (s *Session) instead(text *texts.Text, h hit) (edit, bool) {
	if h.pattern.instead == nil {
		return edit{}, false
	}
	found := text.Text[h.From:h.To]
	if text.JSON && !h.Number {
		if plain, err := jsontext.AppendUnquote(nil, `"`+found+`"`); err == nil {
			found = string(plain)
		}
	}
	with := h.pattern.instead(s, found)
	switch {
	case h.pattern.restores && with == "":
		return edit{}, false
	case text.JSON && h.Number:
		with = `"` + match.Quote(with) + `"`
	case text.JSON:
		with = match.Quote(with)
	}
	return edit{h.From, h.To, with}, true
}
