package llm

import (
	"encoding/json"
	"slices"
)

// Extra is a member of the client's request that Request has no field for.
type Extra struct {
	Name string // in the client's words: "store", "messages[].annotations"
	// Value is as it came. Of a member inside another one it is nil: such is only ever reported.
	Value json.RawMessage
}

// Extras parts what the request has beside its fields. said are those that a schema of the family
// can say, if these are its top-level members: between two schemas of one family a member of one
// name is one thing. lost are the names of all others.
func (r *Request) Extras(family string, members []string) (said []Extra, lost []string) {
	for _, x := range r.Extra {
		if x.Value != nil && r.Family == family && slices.Contains(members, x.Name) {
			said = append(said, x)
		} else {
			lost = append(lost, x.Name)
		}
	}
	return said, lost
}
