package schema

import "cmp"

// Provider is somebody who speaks a schema: a row makes its name usable in a target's provider.
type Provider struct {
	Name   string
	Host   string // "" where the configuration has to say it
	Schema Name
	// Dialect is how it speaks the schema (extproc/provider/openai/dialects.go); "" when nothing is
	// known of that.
	Dialect string
	Base    string // where the operations are; "": the schema's Base
	Auth    Auth   // zero: the schema's
	OTel    string // what OpenTelemetry calls it (gen_ai.provider.name); "": the same
}

// Foreigner tells whether even requests of the schema's own clients are adapted to the provider.
func (p Provider) Foreigner() bool { return p.Dialect != "" && p.Dialect != Of(p.Schema).Family }

// Named is the provider of that name.
func Named(name string) (Provider, bool) {
	for _, p := range providers {
		if p.Name == name {
			return p.complete(), true
		}
	}
	return Provider{}, false
}

// On is the provider whose host it is. Any other host is taken to speak the schema that most do, in
// some way of its own, and shows as its family.
func On(host string) Provider {
	for _, p := range providers {
		if p.Host == host && host != "" {
			return p.complete()
		}
	}
	p, _ := Named(Compatible)
	p.Name = Of(p.Schema).Family
	return p
}

// Names are those of all providers.
func Names() []string {
	var names []string
	for _, p := range providers {
		names = append(names, p.Name)
	}
	return names
}

// complete fills in what the schema says.
func (p Provider) complete() Provider {
	s := Of(p.Schema)
	p.Base = cmp.Or(p.Base, s.Base)
	p.Auth = cmp.Or(p.Auth, s.Auth)
	return p
}
