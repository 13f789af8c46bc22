package limits

import (
	"fmt"

	"github.com/go-json-experiment/json/jsontext"

	"millrace/extproc/llm"
	"millrace/internal/strictjson"
	"millrace/schema"
)

// Size is how large a request is, or, as a bound, may be; then 0 is no bound.
type Size struct {
	TextBytes int   // of the texts that the model reads
	Tokens    int64 // that these are, estimated
	Messages  int
	Tools     int
}

// Within tells which bound the request goes beyond, in a sentence for its client; nil for none.
func (s Size) Within(most Size) error {
	for _, b := range []struct {
		got, most int64
		what      string
	}{
		{int64(s.TextBytes), int64(most.TextBytes), "bytes of text"},
		{s.Tokens, most.Tokens, "tokens (estimated)"},
		{int64(s.Messages), int64(most.Messages), "messages"},
		{int64(s.Tools), int64(most.Tools), "tools"},
	} {
		if b.most > 0 && b.got > b.most {
			return fmt.Errorf("the prompt has %d %s, and at most %d are allowed", b.got, b.what, b.most)
		}
	}
	return nil
}

// Measure reads how large a request is. texts and textBytes are how many texts it has and their
// bytes, members what strictjson.Scan has found in the body.
func Measure(s *schema.Schema, body []byte, members []strictjson.Member, texts, textBytes int) Size {
	size := Size{TextBytes: textBytes, Tokens: llm.EstimateTextTokens(texts, textBytes)}
	for _, m := range members {
		if m.Name == s.Prompt.Turns {
			size.Messages = len(items(body[m.Value:m.End]))
		}
	}
	for _, list := range toolLists(s, body, members) {
		size.Tools += len(list.items)
	}
	return size
}

// Tools are the names of the tools that a request offers to the model, in its order. A tool of the
// provider's own that has no name is called by its type, "web_search"; one without both is "".
func Tools(s *schema.Schema, body []byte, members []strictjson.Member) []string {
	var names []string
	for _, list := range toolLists(s, body, members) {
		for _, item := range list.items {
			before := len(names)
			for _, path := range list.at.Names {
				if name, ok := text(item, path...); ok {
					names = append(names, name)
				}
			}
			if len(names) == before {
				kind, _ := text(item, "type")
				names = append(names, kind)
			}
		}
	}
	return names
}

// toolList is one that a request has.
type toolList struct {
	at    schema.ToolList
	items []jsontext.Value
}

func toolLists(s *schema.Schema, body []byte, members []strictjson.Member) []toolList {
	var lists []toolList
	for _, at := range s.Tools {
		for _, m := range members {
			if m.Name == at.Member {
				lists = append(lists, toolList{at, items(body[m.Value:m.End])})
			}
		}
	}
	return lists
}

// items are those of a list, none of any other value.
func items(value []byte) []jsontext.Value {
	if jsontext.Value(value).Kind() != jsontext.KindBeginArray {
		return nil
	}
	all, err := strictjson.Items(value)
	if err != nil {
		return nil // Scan has accepted the body
	}
	return all
}

// text is the string at a path of member names.
func text(value jsontext.Value, path ...string) (string, bool) {
	for _, name := range path {
		if value.Kind() != jsontext.KindBeginObject {
			return "", false
		}
		members, err := strictjson.Scan(value)
		if err != nil {
			return "", false
		}
		if value = strictjson.NewPatch(value, members).Get(name); value == nil {
			return "", false
		}
	}
	if value.Kind() != jsontext.KindString {
		return "", false
	}
	text, err := jsontext.AppendUnquote(nil, value)
	return string(text), err == nil
}
