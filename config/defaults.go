package config

import (
	"regexp"
	"slices"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	millracev1 "millrace/proto/millrace/v1"
)

// SetDefaults fills in every field the operator may leave out, and turns the short form
// (providers.targets) into the resources it stands for. Doing it twice changes nothing.
func SetDefaults(doc *millracev1.Document) {
	g := ensure(&doc.Gateway)
	setIfZero(&g.Name, "default")
	setIfZero(&g.ListenPort, 41002)
	setIfZero(&g.ListenAddress, "127.0.0.1") // who means everybody says so
	setIfZero(&ensure(&g.MaxRequestBytes).Bytes, 50<<20)
	setIfZero(&ensure(&g.MaxRequestBytesTotal).Bytes, max(256<<20, g.MaxRequestBytes.Bytes))
	setDuration(&g.DrainTimeout, 120*time.Second)
	setDuration(&g.DrainDelay, 15*time.Second)
	setIfZero(&g.ReadyWhen, "any")
	setIfZero(&g.CaFile, "/etc/ssl/certs/ca-certificates.crt") // where Debian, Ubuntu, Alpine and Envoy's own image have it

	t := ensure(&g.Timeouts)
	setDuration(&t.RequestTimeout, 10*time.Minute) // what the SDKs wait; a model that thinks takes minutes
	setDuration(&t.ConnectTimeout, 5*time.Second)
	setDuration(&t.FirstByteTimeout, 5*time.Minute) // some models say nothing while they think; half, so that a second target has time
	if policiesOn(doc) {
		setDuration(&t.PolicyTimeout, 2*time.Second)
	}

	p := ensure(&g.ConnectionPool)
	setDuration(&p.IdleTimeout, 90*time.Second)
	setDuration(&p.KeepAlive, 60*time.Second)

	c := ensure(&g.Clients)
	setIfZero(&c.MaxConnections, 50_000)
	setDuration(&c.IdleTimeout, 15*time.Minute)
	setDuration(&c.ReceiveTimeout, 60*time.Second)
	setIfZero(&c.MaxHeaders, 100)
	setIfZero(&ensure(&c.MaxHeaderBytes).Bytes, 60<<10)

	s := ensure(&g.Streaming)
	setDuration(&s.InterChunkTimeout, 30*time.Second)
	setIfZero(&s.Commit, commitAtToken)
	if readsAnswers(doc) && s.BufferSize == nil {
		s.BufferSize = &millracev1.Bytes{Bytes: defaultHoldBack}
	}

	setEventDefaults(doc.Events)
	expandProviders(doc)
	for _, u := range doc.Upstreams {
		setUpstreamDefaults(u)
	}
	for _, s := range doc.Services {
		setIfZero(&s.Type, "upstream")
		setIfZero(&s.Failure, "closed")
		setIfZero(&s.Inspect, "everything")
	}
	for _, p := range doc.Packs {
		if p.Enabled == nil {
			p.Enabled = proto.Bool(true)
		}
	}
	for _, r := range doc.Rules {
		if r.Active == nil {
			r.Active = proto.Bool(true)
		}
	}
}

// shortForm names the upstream, the service and the rule that providers.targets stands for.
const (
	shortFormName = "default"
	shortFormPath = "/v1"
)

func expandProviders(doc *millracev1.Document) {
	if len(doc.GetProviders().GetTargets()) == 0 {
		return
	}
	doc.Upstreams = append(doc.Upstreams, &millracev1.Upstream{Name: shortFormName, Targets: doc.Providers.Targets})
	doc.Services = append(doc.Services, &millracev1.Service{Name: shortFormName, Upstream: shortFormName})
	doc.Providers = nil
	if slices.ContainsFunc(doc.Rules, func(r *millracev1.Rule) bool { return cleanPath(r.Path) == shortFormPath }) {
		return // a rule of the operator's own for this path takes the place of ours
	}
	doc.Rules = append(doc.Rules, &millracev1.Rule{Path: shortFormPath, Service: shortFormName, Methods: []string{"POST", "GET"}})
}

func setUpstreamDefaults(u *millracev1.Upstream) {
	setIfZero(&u.Algorithm, string(RoundRobin))
	setIfZero(&u.ModelChoice, defaultChoice(u))
	setHashDefaults(u)
	h := ensure(&u.HealthChecks)
	if h.Passive == nil { // what else is said of health checks does not switch these off
		h.Passive = proto.Bool(true)
	}
	if h.GetPassive() {
		setIfZero(&h.Threshold, 3)
		setIfZero(&h.Interval, 60)
		setDuration(&h.MaxCooldown, time.Hour)
	}
	setActiveDefaults(h.Active)
	setBreakerDefaults(u.CircuitBreaker)
	if r := ensure(&u.Retry); r.Attempts == nil {
		r.Attempts = proto.Uint32(3)
	}
	for i, t := range u.Targets {
		setIfZero(&t.Id, targetID(t, i))
		if t.Weight == nil {
			t.Weight = proto.Uint32(1)
		}
	}
}

// defaultChoice has the targets that list a model asked first, unless one has a model to put in
// place of another: that one takes whatever is asked, and the source documents share such requests
// evenly.
func defaultChoice(u *millracev1.Upstream) string {
	if slices.ContainsFunc(u.Targets, func(t *millracev1.Target) bool { return t.DefaultModel != "" }) {
		return "any"
	}
	return "prefer"
}

func setActiveDefaults(a *millracev1.ActiveHealthCheck) {
	if a == nil {
		return
	}
	setDuration(&a.Interval, 10*time.Second)
	setDuration(&a.Timeout, min(a.Interval.AsDuration(), 5*time.Second))
	setIfZero(&a.Fall, 3)
	setIfZero(&a.Rise, 2)
	if a.Path != "" && len(a.ExpectedStatus) == 0 {
		a.ExpectedStatus = []uint32{200}
	}
}

func setBreakerDefaults(b *millracev1.CircuitBreaker) {
	if b == nil {
		return
	}
	setIfZero(&b.FailurePercentage, 50)
	setIfZero(&b.RequestVolume, 10)
	setDuration(&b.Reset_, 30*time.Second)
}

func setHashDefaults(u *millracev1.Upstream) {
	const defaultPromptBalance = 200
	switch Algorithm(u.Algorithm) {
	case CookieHash:
		setIfZero(&u.HashCookie, "millrace")
	case PromptHash:
		if u.HashBalanceFactor == nil {
			u.HashBalanceFactor = proto.Uint32(defaultPromptBalance)
		}
	}
}

// canNameTarget leaves room for the place in the 128 characters of an id, whose rule is in
// config.proto.
var canNameTarget = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,100}$`)

// targetID names a target that the operator did not name: by its provider or host, and its place.
func targetID(t *millracev1.Target, i int) string {
	name := t.GetProvider().GetName()
	if name == "" {
		name = t.GetHost()
	}
	if !canNameTarget.MatchString(name) { // an IPv6 address, or nothing
		name = "target"
	}
	return name + "-" + strconv.Itoa(i+1)
}

func ensure[T any](p **T) *T {
	if *p == nil {
		*p = new(T)
	}
	return *p
}

func setIfZero[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

func setDuration(p **durationpb.Duration, d time.Duration) {
	if *p == nil {
		*p = durationpb.New(d)
	}
}
