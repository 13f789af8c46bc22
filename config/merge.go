package config

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	millracev1 "millrace/proto/millrace/v1"
)

// Merge puts what the file says and what the store holds together: one document per gateway, the
// file's first, with defaults, checked as a whole. file is a loaded document, nil when there is
// none; neither argument is changed. A stored document with the id of the file's gateway adds its
// resources to it. A gateway of state.keyed that has no key left has auth: required, unless it says
// auth: none. The error is an Errors; paths begin with the gateway's name.
func Merge(file *millracev1.Document, state *millracev1.State) ([]*millracev1.Document, error) {
	main := &millracev1.Document{}
	if file != nil {
		main = proto.CloneOf(file)
	}
	SetDefaults(main)
	documents := []*millracev1.Document{main}
	for _, stored := range state.GetDocuments() {
		if stored.GetGateway().GetId() == main.Gateway.Name {
			main.Upstreams = append(main.Upstreams, stored.Upstreams...)
			main.Services = append(main.Services, stored.Services...)
			main.Rules = append(main.Rules, stored.Rules...)
			main.Keys = append(main.Keys, stored.Keys...)
			main.Packs = append(main.Packs, stored.Packs...)
			main = proto.CloneOf(main) // the stored resources stay as they are
			documents[0] = main
			SetDefaults(main)
			continue
		}
		d := proto.CloneOf(stored)
		SetDefaults(d)
		documents = append(documents, d)
	}
	stayClosed(documents, state.GetKeyed())
	if found := validateAll(documents); len(found) > 0 {
		return nil, found
	}
	return documents, nil
}

// validateAll is Validate for every document, and what only all of them together can show.
func validateAll(documents []*millracev1.Document) Errors {
	v := &validation{}
	hosts := map[string]string{}
	gatewayNames := names{}
	for i, d := range documents {
		path := fmt.Sprintf("gateways[%s]", d.Gateway.Name)
		for _, e := range append(check(d), validate(d, documents[0].Gateway)...) {
			v.errorf(join(path, e.Path), "%s", e.Reason)
		}
		v.unique(gatewayNames, path+".name", d.Gateway.Name, i)
		for _, host := range domains(d.Gateway) {
			if owner, taken := hosts[host]; taken {
				v.errorf(path+".subdomain", "%q selects gateway %q already", host, owner)
			}
			hosts[host] = d.Gateway.Name
		}
		if i > 0 {
			v.added(path, d.Gateway)
		}
	}
	return v.found
}

// added checks a gateway that is not the file's: it shares the listener, so it must be told apart,
// and has no say in it.
func (v *validation) added(path string, g *millracev1.Gateway) {
	if g.Subdomain == "" && len(g.Hosts) == 0 {
		v.errorf(path+".subdomain", "needed, or hosts: another gateway has the requests that name none")
	}
	if g.Tls != nil || g.Admin != nil {
		v.errorf(path+".tls", "tls and admin belong to the process: only the file can set them")
	}
	if len(g.AllowUpstreams) > 0 {
		v.errorf(path+".allow_upstreams", "only the file can allow upstream addresses, for all gateways")
	}
}

// domains are the hosts that select a gateway, as Envoy writes them; "*" when it names none.
func domains(g *millracev1.Gateway) []string {
	var d []string
	if g.Subdomain != "" {
		d = append(d, g.Subdomain+".*")
	}
	for _, host := range g.Hosts {
		d = append(d, strings.ToLower(host)) // Envoy tells no case apart
	}
	if len(d) == 0 {
		return []string{"*"}
	}
	return d
}
