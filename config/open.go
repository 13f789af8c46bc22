package config

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	millracev1 "millrace/proto/millrace/v1"
	"millrace/schema"
)

// failureOpen is what a service's failure says when Envoy is to serve it without the sidecar.
const failureOpen = "open"

// OpenSchema is that of the requests which Envoy sends on by itself while the sidecar is dead. Without a conversation it sends
// nothing.
func (r *Rule) OpenSchema() *schema.Schema {
	if !r.Shares[0].Open {
		return &schema.Schema{}
	}
	return schema.Of(r.Shares[0].Upstream.Targets[0].Schema)
}

// OpenPath is where the operation is at each of the targets.
func (r *Rule) OpenPath() string {
	t := r.Shares[0].Upstream.Targets[0]
	return cmp.Or(t.Path, t.BasePath+schema.Of(t.Schema).Conversation())
}

// open refuses what cannot be served without the sidecar. The reasons are in docs/rationale.md, "When may a service stay open
// without the sidecar?".
func (v *validation) open(doc *millracev1.Document, upstreams, services names) {
	name := "" // of an open service, to say whose fault it is
	for _, s := range doc.Services {
		if s.Failure == failureOpen {
			name = s.Name
			i := upstreams[s.Upstream+s.UpstreamId]
			v.openUpstream(name, fmt.Sprintf("upstreams[%d]", i), doc.Upstreams[i])
		}
	}
	if name == "" {
		return
	}
	switch auth := doc.Gateway.Auth; {
	case auth == authRequired:
		v.needsSidecar(name, "gateway.auth", "no key is checked")
	case auth != authNone && len(doc.Keys) > 0:
		v.needsSidecar(name, "keys", "no key is checked; gateway.auth: none admits everybody")
	}
	if policiesOn(doc) {
		v.needsSidecar(name, "policies.chain", "no policy is enforced")
	}
	for i, r := range doc.Rules {
		if r.GetActive() {
			v.openRule(fmt.Sprintf("rules[%d]", i), r, doc, upstreams, services)
		}
	}
}

func (v *validation) needsSidecar(service, path, without string) {
	v.errorf(path, "service %q has failure: open, and without the sidecar %s", service, without)
}

func (v *validation) openUpstream(service, path string, u *millracev1.Upstream) {
	if Algorithm(u.Algorithm) == PromptHash {
		v.needsSidecar(service, path+".algorithm", "no prompt is read")
	}
	if u.ModelChoice == "listed" {
		v.needsSidecar(service, path+".model_choice", "no model is read")
	}
	for j, t := range u.Targets {
		at := fmt.Sprintf("%s.targets[%d]", path, j)
		if len(t.ModelMap) > 0 {
			v.needsSidecar(service, at+".model_map", "no model is replaced")
		}
		if t.DefaultModel != "" {
			v.needsSidecar(service, at+".default_model", "no model is replaced")
		}
		if len(t.ForwardHeaders) > 0 {
			v.needsSidecar(service, at+".forward_headers", "none but the headers that all targets get are passed on")
		}
		if t.DefaultMaxTokens > 0 || t.MaxOutputTokens > 0 {
			v.needsSidecar(service, at+".max_output_tokens", "no limit is set")
		}
		if p, _ := place(t); p.Foreigner() {
			v.needsSidecar(service, at+".provider", "nothing is adapted to what "+p.Name+" takes")
		}
		first := u.Targets[0]
		if !sameCredential(credentialOf(first), credentialOf(t)) {
			v.needsSidecar(service, at+".credentials", fmt.Sprintf("every target gets one credential; target %q has another", first.Id))
		}
		if !maps.Equal(secretHeaders(first), secretHeaders(t)) {
			v.needsSidecar(service, at+".headers", fmt.Sprintf("every target gets one credential; target %q has others", first.Id))
		}
		if openPath(t) != openPath(first) {
			v.needsSidecar(service, at+".path", fmt.Sprintf("every target gets one path; target %q has another", first.Id))
		}
		if schemaOf(t) != schemaOf(first) {
			v.needsSidecar(service, at+".provider", fmt.Sprintf("nothing is translated; target %q speaks another schema", first.Id))
		}
		switch s := schema.Of(schemaOf(t)); {
		case len(s.Operations) == 0:
			v.needsSidecar(service, at+".provider", fmt.Sprintf("the schema %s cannot be spoken", schemaOf(t)))
		case s.Conversation() == "":
			v.needsSidecar(service, at+".provider", fmt.Sprintf("where a target of the schema %s is asked depends on the request", s.Name))
		}
	}
}

func sameCredential(a, b credential) bool {
	if a.secret == nil || b.secret == nil {
		return a.secret == b.secret
	}
	return a.header == b.header && a.prefix == b.prefix && proto.Equal(a.secret, b.secret)
}

// secretHeaders are the headers of a target that carry credentials, by their names in lower case.
func secretHeaders(t *millracev1.Target) map[string]string {
	secrets := map[string]string{}
	for name, value := range t.Headers {
		if IsCredential(name) {
			secrets[strings.ToLower(name)] = value
		}
	}
	return secrets
}

// openPath is where the target's operation is.
func openPath(t *millracev1.Target) string {
	p, a := place(t)
	return cmp.Or(t.Path, a.base+schema.Of(p.Schema).Conversation())
}

func schemaOf(t *millracev1.Target) schema.Name {
	p, _ := place(t)
	return p.Schema
}

// openRule checks what a rule asks of an open service.
func (v *validation) openRule(path string, r *millracev1.Rule, doc *millracev1.Document, upstreams, services names) {
	refs := []string{r.Service + r.ServiceId}
	if len(r.Services) > 0 {
		refs = nil
		for _, s := range r.Services {
			refs = append(refs, s.Service)
		}
	}
	open := ""
	alike := map[string]bool{}
	for _, ref := range refs {
		s := doc.Services[services[ref]]
		if s.Failure == failureOpen {
			open = s.Name
		}
		u := doc.Upstreams[upstreams[s.Upstream+s.UpstreamId]]
		alike[s.Failure+string(schemaOf(u.Targets[0]))+openPath(u.Targets[0])] = true
	}
	if open == "" {
		return
	}
	if len(alike) > 1 {
		v.needsSidecar(open, path+".services", "all of the rule's must be open and have one schema and path")
	}
	if slices.ContainsFunc(doc.Rules, func(other *millracev1.Rule) bool {
		return other.GetActive() && cleanPath(other.Path) == cleanPath(r.Path) && len(other.Models) > 0
	}) {
		v.needsSidecar(open, path+".models", "no model is read, and rules of this path choose by it")
	}
}
