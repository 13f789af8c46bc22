package policy

import (
	"strconv"

	"millrace/extproc/policy/condition"
	"millrace/extproc/policy/limits"
	"millrace/extproc/texts"
	"millrace/internal/strictjson"
)

// facts are what conditions are asked about.
func (s *Session) facts(p Phase, d *document) *condition.Facts {
	f := &condition.Facts{
		Gateway: s.Gateway, Service: s.Service, Key: s.Key, Model: s.Model, Schema: s.Schema, Path: s.Path, Method: s.Method,
		ClientAddress: s.Client, Stream: s.Stream, Tags: s.Tags, Bytes: s.Bytes, Time: s.Time, Phase: string(p),
	}
	if s.Headers != nil {
		f.Headers = s.Headers()
	}
	s.mu.Lock()
	if s.asked != nil {
		f.Texts, f.TextBytes, f.Tools, f.MaxTokens = s.asked.Texts, s.asked.TextBytes, s.asked.Tools, s.asked.MaxTokens
	}
	s.mu.Unlock()
	if d == nil {
		return f
	}
	all, err := d.Texts()
	if err != nil {
		return f // who reads the texts fails
	}
	if p == Output {
		f.Answer.Bytes, f.Answer.TextBytes = len(d.body), textBytes(all)
		return f
	}
	f.Texts, f.TextBytes = len(all), textBytes(all)
	f.Tools, _ = d.tools() // who reads the members fails
	f.MaxTokens = d.maxTokens()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = f
	return f
}

// tools are the names of those that a request offers.
func (d *document) tools() ([]string, error) {
	members, err := d.Members()
	if err != nil {
		return nil, err
	}
	return limits.Tools(d.schema, d.body, members), nil
}

// maxTokens is what a request lets the model write; 0 where it does not say.
func (d *document) maxTokens() int64 {
	members, err := d.Members()
	if err != nil {
		return 0
	}
	body := strictjson.NewPatch(d.body, members)
	for _, name := range d.schema.Output.Limits {
		if value := body.Get(name); value != nil {
			n, _ := strconv.ParseInt(string(value), 10, 64)
			return n
		}
	}
	return 0
}

func textBytes(all []texts.Text) int {
	n := 0
	for i := range all {
		n += len(all[i].Text)
	}
	return n
}
