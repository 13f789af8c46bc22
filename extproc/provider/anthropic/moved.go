package anthropic

import (
	"bytes"

	"millrace/extproc/llm"
	"millrace/internal/strictjson"
	"millrace/internal/wirejson"

	"github.com/go-json-experiment/json/jsontext"
)

// A conversation of this schema that was at another provider before it came here has in it what
// that one said: thinking that nobody signed, since only Anthropic signs (answerBlock writes it
// so), and ids of tool calls in any form. The API refuses both: "Invalid `signature` in `thinking`
// block", "String should match pattern '^[a-zA-Z0-9_-]+$'". What Anthropic signed keeps its bytes.

// suspect tells whether messages may hold any of it, or, when budget is set, a turn of calls that
// is being answered and may not begin with thinking. It never misses one, decodes nothing, and for
// a conversation that has always been here says no. ids are the legal ids of calls that have
// results.
func suspect(messages []byte, budget bool) (ids map[string]bool, found bool) {
	var last []byte // what comes after the role of the last assistant's message
	for rest := range strictjson.Strings(messages, `"assistant"`) {
		last = rest
	}
	if last == nil {
		return nil, false
	}
	ids, found = resultIDs(messages)
	return ids, found || unsigned(messages) || budget && headless(last)
}

// resultIDs looks at the results of calls, for every call has one. strange tells that an id is not
// legal, or is there twice.
func resultIDs(messages []byte) (legal map[string]bool, strange bool) {
	for rest := range strictjson.Strings(messages, `"tool_use_id"`) {
		quoted := strictjson.ValueAfter(rest)
		if quoted == nil {
			continue
		}
		id := string(quoted[1 : len(quoted)-1])
		if !legalID(id) || legal[id] {
			strange = true
			continue
		}
		if legal == nil {
			legal = map[string]bool{}
		}
		legal[id] = true
	}
	return legal, strange
}

// unsigned tells whether there may be a thinking block without a signature: the word as a value, in
// an object that says nothing of a signature behind it.
func unsigned(messages []byte) bool {
	seen := 0 // bytes at the end of messages that have not been looked at; 0: all
	for rest := range strictjson.Strings(messages, `"thinking"`) {
		if seen > 0 && len(rest) > seen {
			continue
		}
		if after := bytes.TrimLeft(rest, " \t\r\n"); len(after) > 0 && after[0] == ':' {
			continue
		}
		n, signed, flat := signedFurther(rest)
		if flat && !signed {
			return true
		}
		seen = len(rest) - n
	}
	return false
}

// signedFurther reads on in an object behind one of its values, up to its end, or to where it has
// more than strings in it and so is no thinking block (flat is false). n is how much it has read.
func signedFurther(rest []byte) (n int, signed, flat bool) {
	for i := 0; i < len(rest); i++ {
		switch rest[i] {
		case '"':
			end := strictjson.StringEnd(rest, i)
			if string(rest[i:end+1]) == `"signature"` {
				signed = len(strictjson.ValueAfter(rest[end+1:])) > len(`""`)
			}
			i = end
		case '{', '[', ']':
			return i, signed, false
		case '}':
			return i, signed, true
		}
	}
	return len(rest), signed, false
}

// headless tells whether the last assistant's turn may call tools, have results, and not begin with
// thinking. It gets the messages from that assistant's role on.
func headless(tail []byte) bool {
	if !bytes.Contains(tail, []byte(`"tool_use_id"`)) {
		return false
	}
	for rest := range strictjson.Strings(tail, `"type"`) {
		kind := string(strictjson.ValueAfter(rest))
		return kind != `"thinking"` && kind != `"redacted_thinking"`
	}
	return true
}

// mover makes messages that are suspect fit to be sent.
type mover struct {
	ids     callIDs
	written map[string]string // the ids of the assistant's turn at hand: the client's, and what became of it
	role    string            // whose turn it is

	first string // the type of the first block of the last assistant's turn
	calls bool   // that turn calls tools

	moved   bool // something has changed
	dropped bool // some of it was thinking
}

// move returns the messages as they can be sent, nil for as they are.
func (m *mover) move(messages []byte) (jsontext.Value, error) {
	if jsontext.Value(messages).Kind() != '[' {
		return nil, nil // the API will say so
	}
	kept, err := eachItem(messages, m.message)
	if err != nil || !m.moved {
		return nil, err
	}
	return strictjson.List(kept), nil
}

// eachItem gives f the items of a list that are objects. It returns them as f leaves them, without
// those for which f returns nil, and with what else there is in the list: the API will speak of
// that.
func eachItem(list []byte, f func(*strictjson.Patch) (jsontext.Value, error)) ([]jsontext.Value, error) {
	items, err := strictjson.Items(list)
	if err != nil {
		return nil, err
	}
	kept := items[:0]
	for _, raw := range items {
		if raw.Kind() == '{' {
			members, err := strictjson.Scan(raw)
			if err != nil {
				return nil, err
			}
			if raw, err = f(strictjson.NewPatch(raw, members)); err != nil {
				return nil, err
			}
		}
		if raw != nil {
			kept = append(kept, raw)
		}
	}
	return kept, nil
}

// headless tells of the messages that were moved what the function of that name suspects.
func (m *mover) headless() bool {
	return m.role == string(llm.User) && m.calls && m.first != "thinking" && m.first != "redacted_thinking"
}

// message returns nil for a message of which nothing is left.
func (m *mover) message(p *strictjson.Patch) (jsontext.Value, error) {
	role := wirejson.Unquote(p.Get("role"))
	if role == string(llm.Assistant) && m.role != role {
		m.written, m.first, m.calls = map[string]string{}, "", false
	}
	m.role = role
	content := jsontext.Value(p.Get("content"))
	if content.Kind() != '[' {
		m.begins("text")
		return p.Bytes(), nil
	}
	before := m.moved
	m.moved = false
	kept, err := eachItem(content, m.block)
	if err != nil {
		return nil, err
	}
	changed := m.moved
	m.moved = m.moved || before
	switch {
	case !changed:
	case len(kept) == 0:
		return nil, nil
	default:
		p.Set("content", strictjson.List(kept))
	}
	return p.Bytes(), nil
}

// begins notes the type of a block that may be the first of an assistant's turn.
func (m *mover) begins(kind string) {
	if m.role == string(llm.Assistant) && m.first == "" {
		m.first = kind
	}
}

// block returns nil for a block that is left out.
func (m *mover) block(p *strictjson.Patch) (jsontext.Value, error) {
	kind := wirejson.Unquote(p.Get("type"))
	switch {
	case kind == "thinking" && m.role == string(llm.Assistant) && wirejson.Unquote(p.Get("signature")) == "":
		m.moved, m.dropped = true, true
		return nil, nil
	case kind == "tool_use" && m.role == string(llm.Assistant):
		m.calls = true
		id := wirejson.Unquote(p.Get("id"))
		m.written[id] = m.ids.fit(id)
		m.rename(p, "id", id)
	case kind == "tool_result":
		m.rename(p, "tool_use_id", wirejson.Unquote(p.Get("tool_use_id")))
	}
	m.begins(kind)
	return p.Bytes(), nil
}

// rename writes what became of an id. One that belongs to no call stays: the API will say so.
func (m *mover) rename(p *strictjson.Patch, member, id string) {
	if here, ok := m.written[id]; ok && here != id && id != "" {
		m.moved = true
		p.Set(member, []byte(`"`+here+`"`))
	}
}
