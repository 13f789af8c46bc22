package extproc

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"millrace/schema"
)

// promptHash is equal for all turns of a conversation: of the system prompt, the tools and all up
// to the first message of the user it takes the strings, whatever the model, the settings and the
// later turns. Providers keep prompts by their beginning, so a conversation that stays on one
// target finds its own. body is an object that ReadHead accepted. What comes behind the first
// message is skipped, not read.
func promptHash(body []byte, of schema.Prompt) string {
	parts := map[string][]byte{} // what each member adds, so that their order in the body does not matter
	d := jsontext.NewDecoder(bytes.NewBuffer(body))
	if _, err := d.ReadToken(); err != nil {
		return ""
	}
	for d.PeekKind() == '"' {
		name, err := d.ReadToken()
		if err != nil {
			break
		}
		member := name.String()
		digest := sha256.New()
		switch {
		case slices.Contains(of.Fixed, member):
			err = addStrings(digest, d)
		case member == of.Turns:
			err = addFirstTurn(digest, d)
		default:
			err = d.SkipValue()
			digest = nil
		}
		if err != nil {
			break
		}
		if digest != nil {
			parts[member] = digest.Sum(nil)
		}
	}
	whole := sha256.New()
	for _, member := range append(slices.Clip(of.Fixed), of.Turns) {
		whole.Write(parts[member])
	}
	return hex.EncodeToString(whole.Sum(nil)[:16])
}

// addFirstTurn adds a list of messages up to the user's first, that one included, or a text in
// place of the list.
func addFirstTurn(digest hash.Hash, d *jsontext.Decoder) error {
	if d.PeekKind() != '[' {
		return addStrings(digest, d)
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	for found := false; d.PeekKind() != ']'; {
		if found {
			if err := d.SkipValue(); err != nil {
				return err
			}
			continue
		}
		message, err := d.ReadValue()
		if err != nil {
			return err
		}
		found = roleOf(message) == "user"
		if err := addStrings(digest, jsontext.NewDecoder(bytes.NewBuffer(message))); err != nil {
			return err
		}
	}
	_, err := d.ReadToken()
	return err
}

func roleOf(message jsontext.Value) string {
	d := jsontext.NewDecoder(bytes.NewBuffer(message))
	if d.PeekKind() != '{' {
		return ""
	}
	if _, err := d.ReadToken(); err != nil {
		return ""
	}
	for d.PeekKind() == '"' {
		name, err := d.ReadToken()
		if err != nil {
			return ""
		}
		if name.String() != "role" {
			if d.SkipValue() != nil {
				return ""
			}
			continue
		}
		role, err := d.ReadToken()
		if err != nil || role.Kind() != '"' {
			return ""
		}
		return role.String()
	}
	return ""
}

// addStrings adds the strings of the next value in their order. Names are left out, and so are
// members that clients change while a conversation goes on: the mark that asks for caching moves
// from message to message, and a message written as a plain string becomes a list of blocks to
// carry it. So is what Claude Code counts in the first line of its system prompt.
func addStrings(digest hash.Hash, d *jsontext.Decoder) error {
	for depth := d.StackDepth(); ; {
		kind := d.PeekKind()
		isName := false
		if container, length := d.StackIndex(d.StackDepth()); kind == '"' && container == '{' {
			isName = length%2 == 0
		}
		token, err := d.ReadToken()
		if err != nil {
			return err
		}
		switch {
		case isName:
			if name := token.String(); name == "cache_control" || name == "type" || name == "role" {
				if err := d.SkipValue(); err != nil {
					return err
				}
			}
		case kind == '"':
			text := token.String()
			if prompt := schema.WithoutAside(text); prompt != "" || text == "" {
				digest.Write([]byte(prompt))
				digest.Write([]byte{0})
			}
		}
		if d.StackDepth() == depth {
			return nil
		}
	}
}
