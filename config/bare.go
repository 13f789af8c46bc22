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

const (
	// failureOpen is what a service's failure says when Envoy is to serve it without the sidecar.
	failureOpen = "open"
	// inspectFirstToken is what a service's inspect says when the sidecar is to detach from a
	// stream at its first token.
	inspectFirstToken = "first-token"
	// inspectHeaders is what a service's inspect says when no body is to be read.
	inspectHeaders = "headers"
)

// Bare is when Envoy sends the plain requests of a rule on by itself: posts to the one operation of
// its targets, which all have one schema, one path and one credential.
type Bare uint8

// When Envoy does.
const (
	BareNever    Bare = iota
	BareFallback      // while the sidecar is dead (failure: open)
	BareAlways        // the sidecar reads no body of theirs (inspect: headers)
)

func (r *Rule) bare() Bare {
	switch {
	case r.Shares[0].Unread:
		return BareAlways
	case r.Shares[0].Open:
		return BareFallback
	}
	return BareNever
}

// BareSchema is that of the requests which Envoy sends on by itself, or whose streams it passes on:
// all targets speak it.
func (r *Rule) BareSchema() *schema.Schema {
	targets := r.Shares[0].Upstream.Targets
	asked := slices.IndexFunc(targets, func(t *Target) bool { return t.Answer == "" })
	return schema.Of(targets[max(asked, 0)].Schema)
}

// BarePath is where the operation is at each of the targets.
func (r *Rule) BarePath() string {
	t := r.Shares[0].Upstream.Targets[0]
	return cmp.Or(t.Path, t.BasePath+schema.Of(t.Schema).Conversation())
}

// bareService is what a service is called where Envoy cannot serve it by itself, as it is to.
type bareService string

func bareServiceOf(s *millracev1.Service) bareService {
	switch {
	case s.Failure == failureOpen:
		return bareService(fmt.Sprintf("service %q has failure: open, and without the sidecar", s.Name))
	case s.Inspect == inspectHeaders:
		return bareService(fmt.Sprintf("service %q has inspect: headers, and then", s.Name))
	}
	return ""
}

// bare refuses what Envoy cannot serve by itself. The reasons are in docs/rationale.md, "When may a
// service stay open without the sidecar?".
func (v *validation) bare(doc *millracev1.Document, upstreams, services names) {
	var open bareService // one of them, to say whose fault it is
	policies := chainsOf(doc)
	for place, s := range doc.Services {
		chain := policies.of(place)
		if s.Inspect == inspectFirstToken {
			i := upstreams[s.Upstream+s.UpstreamId]
			v.oneSchema(s.Name, fmt.Sprintf("upstreams[%d]", i), doc.Upstreams[i])
			if i := slices.IndexFunc(chain, func(l link) bool { return l.Phase.Output() }); i >= 0 {
				v.errorf(chain[i].at, "service %q has inspect: first-token, and then no policy reads its streams to their end", s.Name)
			}
		}
		service := bareServiceOf(s)
		if service == "" {
			continue
		}
		if len(chain) > 0 {
			v.needsSidecar(service, chain[0].at, "no policy is enforced")
		}
		if s.Failure == failureOpen {
			open = service
		}
		i := upstreams[s.Upstream+s.UpstreamId]
		v.bareUpstream(service, fmt.Sprintf("upstreams[%d]", i), doc.Upstreams[i])
	}
	switch auth := doc.Gateway.Auth; {
	case open == "":
	case auth == authRequired:
		v.needsSidecar(open, "gateway.auth", "no key is checked")
	case auth != authNone && len(doc.Keys) > 0:
		v.needsSidecar(open, "keys", "no key is checked; gateway.auth: none admits everybody")
	}
	for i, r := range doc.Rules {
		if r.GetActive() {
			v.bareRule(fmt.Sprintf("rules[%d]", i), r, doc, upstreams, services)
		}
	}
}

func (v *validation) needsSidecar(service bareService, path, without string) {
	v.errorf(path, "%s %s", service, without)
}

func (v *validation) bareUpstream(service bareService, path string, u *millracev1.Upstream) {
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
		if barePath(t) != barePath(first) {
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

// barePath is where the target's operation is.
func barePath(t *millracev1.Target) string {
	p, a := place(t)
	return cmp.Or(t.Path, a.base+schema.Of(p.Schema).Conversation())
}

func schemaOf(t *millracev1.Target) schema.Name {
	p, _ := place(t)
	return p.Schema
}

// bareRule checks what a rule asks of a service that Envoy is to serve by itself.
func (v *validation) bareRule(path string, r *millracev1.Rule, doc *millracev1.Document, upstreams, services names) {
	refs := serviceRefs(r)
	var bare bareService
	alike := map[string]bool{}
	for _, ref := range refs {
		s := doc.Services[services[ref]]
		bare = cmp.Or(bareServiceOf(s), bare)
		u := doc.Upstreams[upstreams[s.Upstream+s.UpstreamId]]
		if len(u.Targets) > 0 { // else that is what is said
			alike[s.Failure+" "+s.Inspect+string(schemaOf(u.Targets[0]))+barePath(u.Targets[0])] = true
		}
	}
	if bare == "" {
		v.alikeInspected(path, refs, doc, upstreams, services)
		return
	}
	if len(alike) > 1 {
		v.needsSidecar(bare, path+".services", "all of the rule's must be so, and have one schema and path")
	}
	if slices.ContainsFunc(doc.Rules, func(other *millracev1.Rule) bool {
		return other.GetActive() && cleanPath(other.Path) == cleanPath(r.Path) && len(other.Models) > 0
	}) {
		v.needsSidecar(bare, path+".models", "no model is read, and rules of this path choose by it")
	}
}

// oneSchema checks that the targets of a service whose streams are not read to their end speak one
// schema.
func (v *validation) oneSchema(service, path string, u *millracev1.Upstream) {
	var first *millracev1.Target
	for j, t := range u.Targets {
		if t.Answer != "" {
			continue
		}
		if first == nil {
			first = t
		}
		if schemaOf(t) != schemaOf(first) {
			v.errorf(fmt.Sprintf("%s.targets[%d].provider", path, j), "service %q has inspect: first-token, and then all targets speak one schema; target %q speaks another", service, first.Id)
		}
	}
}

// alikeInspected checks that a rule's services have the same read: Envoy makes its route for all of
// them.
func (v *validation) alikeInspected(path string, refs []string, doc *millracev1.Document, upstreams, services names) {
	first := doc.Services[services[refs[0]]]
	speaks := func(s *millracev1.Service) schema.Name {
		u := doc.Upstreams[upstreams[s.Upstream+s.UpstreamId]]
		if len(u.Targets) == 0 { // that is what is said
			return ""
		}
		return schemaOf(u.Targets[0])
	}
	for _, ref := range refs[1:] {
		if s := doc.Services[services[ref]]; s.Inspect != first.Inspect {
			v.errorf(path+".services", "service %q has inspect: %s and service %q inspect: %s; those of a rule must have the same", first.Name, first.Inspect, s.Name, s.Inspect)
		} else if s.Inspect == inspectFirstToken && speaks(s) != speaks(first) {
			v.errorf(path+".services", "service %q has inspect: first-token, and then all targets of the rule's services speak one schema; service %q speaks another", first.Name, s.Name)
		}
	}
}
