// Package schema says what a schema is and who speaks it: rows of data (rows.go) and how to look
// them up. The configuration, Envoy's half and the codecs read the same rows, so a provider is one
// folder in extproc/provider and its rows here.
//
// A schema without a codec may have a row too: the others must know which members are its own.
// Nothing here is ever changed; all of it may be read at the same time.
package schema

import (
	"slices"
	"strings"
)

// Name names a schema: "openai.chat".
type Name string

// Schema is one wire format. The zero value is that of nobody: it has no operations and owns
// nothing.
type Schema struct {
	Name Name
	// Family is whose schema it is. Headers that tell of limits mean something to clients of the
	// same family only.
	Family string

	// Version is the first segment of the paths that apps use, which is optional: "/v1".
	Version string
	// Operations are what apps may ask for. The first is the conversation. One may have several
	// rows: where whole and streamed answers are asked for at different paths, each says so by a
	// name with a text.
	Operations []Operation
	// Sniff says how a client is recognised before its operation is known. Of the schema that
	// everybody else is taken to speak it is empty.
	Sniff Sniff

	// RequestHeaders are the client's that only targets of this schema get.
	RequestHeaders []string
	// ResponsePrefixes begin the headers of an answer that only clients of the family get.
	ResponsePrefixes []string
	// Remaining are the headers of an answer that say what is left of the account's limits.
	Remaining Remaining
	// Headers are wanted with every request, with the value that they have by default.
	Headers map[string]string

	// Base is where a host has the operations, unless its own row or base URL says otherwise.
	Base string
	// BareURLs: base URLs are written without Base, which is part of the operation's path.
	BareURLs bool
	// Auth is the header that carries a key, unless the provider's row says otherwise.
	Auth Auth

	// Members are the top-level members of a request that the schema's documentation has.
	Members []string
	// Extensions are further ones that hosts of the schema take or adapt.
	Extensions []string
	// Prompt says which of the members the model reads.
	Prompt Prompt
	// Output says how a client bounds what the model writes.
	Output Output
	// Tools are where a request names the tools that the model may use.
	Tools []ToolList

	// Texts are where the texts are of what is asked and answered.
	Texts Texts

	Framing Framing
	// Usage is where a stream says what it has used up.
	Usage []UsagePlace
	Error ErrorForm
	// Statuses are those that only clients of this schema understand.
	Statuses []int
}

// Operation is one thing to ask for, by POST.
type Operation struct {
	Name string // what it is called here
	Path Pattern
}

// The operations.
const (
	Conversation = "conversation" // every schema has it
	CountTokens  = "count_tokens" // of a conversation, before it is held
)

// Sniff is what gives a client away: a header that it sends, in lower case, or a part of its path.
type Sniff struct{ Header, Path string }

// InPath tells whether the path gives a client of the schema away.
func (s Sniff) InPath(path string) bool { return s.Path != "" && strings.Contains(path, s.Path) }

// Auth is how a key is sent.
type Auth struct {
	Header string // in canonical form
	Prefix string // before the key
}

// Prompt is what of a request the model reads.
type Prompt struct {
	Fixed []string // the members that stay the same while a conversation goes on, in the order in which they count
	Turns string   // the member with the list of messages
	// Asides begin lines that a client puts before its prompt and that are no part of it.
	Asides []string
}

// Output is how a client bounds what the model writes.
type Output struct {
	Limits []string // the members that do, in tokens; the first is the one that every host takes
	Zero   bool     // a limit of 0 asks for nothing to be written; elsewhere some take it for none
}

// ToolList is a member that lists tools, and the paths at which an item may have its name; one that
// has it at none is what its type says.
type ToolList struct {
	Member string
	Names  [][]string
}

// Framing is how a streamed answer is cut into events.
type Framing struct {
	ContentType string
	Comment     string // an event that every client skips
}

// UsagePlace is a place in the events of a stream, and an event that says nothing but what is
// there, for %s.
type UsagePlace struct {
	Path  []string
	Event string
}

// Key is the place in one word.
func (u UsagePlace) Key() string { return strings.Join(u.Path, ".") }

// Of is the schema of that name, or the zero one.
func Of(name Name) *Schema {
	for _, s := range schemas {
		if s.Name == name {
			return s
		}
	}
	return &Schema{}
}

// All are the schemas that a client or a target can speak, the usual one first.
func All() []*Schema {
	var spoken []*Schema
	for _, s := range schemas {
		if len(s.Operations) > 0 {
			spoken = append(spoken, s)
		}
	}
	return spoken
}

// Usual is the schema that whoever is not recognised is taken to speak.
func Usual() *Schema { return schemas[0] }

// Guess is the schema of a client whose operation is not known. has tells whether it sent a header.
func Guess(path string, has func(header string) bool) *Schema {
	for _, s := range schemas {
		if s.Sniff.InPath(path) || s.Sniff.Header != "" && has(s.Sniff.Header) {
			return s
		}
	}
	return Usual()
}

// Conversation is the path of the operation, "" where it depends on the request.
func (s *Schema) Conversation() string { return s.PathOf(Conversation) }

// PathOf is the path of an operation, "" where the schema has none or it depends on the request.
func (s *Schema) PathOf(operation string) string {
	path, _ := s.Path(operation, nil)
	return path
}

// Path is the path of an operation for what its names stand for, if there is one.
func (s *Schema) Path(operation string, params Params) (string, bool) {
	for _, o := range s.Operations {
		if o.Name != operation {
			continue
		}
		if path, ok := o.Path.Path(params); ok {
			return path, true
		}
	}
	return "", false
}

// BelowVersion is a path without the version that it may begin with.
func BelowVersion(path string) string {
	for _, s := range schemas {
		if below, ok := strings.CutPrefix(path, s.Version); ok && s.Version != "" && (below == "" || below[0] == '/') {
			return below
		}
	}
	return path
}

// At is the operation at a path below the version, and what its pattern found there.
func (s *Schema) At(path string) (Operation, Params, bool) {
	for _, o := range s.Operations {
		if params, ok := o.Path.Match(path); ok {
			return o, params, true
		}
	}
	return Operation{}, nil, false
}

// Foreign are the members that other schemas have and this one has not. A client that writes one
// body for many providers sends them.
func (s *Schema) Foreign() map[string]bool {
	foreign := map[string]bool{}
	for _, other := range schemas {
		for _, name := range other.Members {
			if !slices.Contains(s.Members, name) && !slices.Contains(s.Extensions, name) {
				foreign[name] = true
			}
		}
	}
	return foreign
}

// Takes tells whether a header of a client's, in lower case, is for targets of this schema: its
// own, or nobody's.
func (s *Schema) Takes(header string) bool {
	if slices.Contains(s.RequestHeaders, header) {
		return true
	}
	return !slices.ContainsFunc(schemas, func(other *Schema) bool { return slices.Contains(other.RequestHeaders, header) })
}

// RequestHeaders are those that some schema has for itself.
func RequestHeaders() []string {
	var all []string
	for _, s := range schemas {
		all = append(all, s.RequestHeaders...)
	}
	return all
}

// Remaining are headers, in lower case, that say how many requests and tokens are left; "" is none.
type Remaining struct{ Requests, Tokens string }

// Tells tells whether a header of an answer, in lower case, means something to clients of the
// family.
func (s *Schema) Tells(header string) bool {
	return slices.ContainsFunc(s.ResponsePrefixes, func(prefix string) bool { return strings.HasPrefix(header, prefix) })
}

// Status is the one that a client of this schema understands: what only others have is a 503.
func (s *Schema) Status(status int) int {
	for _, other := range schemas {
		if slices.Contains(other.Statuses, status) && !slices.Contains(s.Statuses, status) {
			return 503
		}
	}
	return status
}

// WithoutAside is a text of a prompt without the line of its client's that it may begin with.
func WithoutAside(text string) string {
	for _, s := range schemas {
		for _, aside := range s.Prompt.Asides {
			if strings.HasPrefix(text, aside) {
				_, text, _ = strings.Cut(text, "\n")
				return strings.TrimLeft(text, "\r\n")
			}
		}
	}
	return text
}
