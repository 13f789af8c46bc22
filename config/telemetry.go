package config

import (
	"maps"
	"net/url"
	"slices"

	millracev1 "millrace/proto/millrace/v1"
)

// tracesPath is where collectors take traces
// (https://opentelemetry.io/docs/specs/otlp/#otlphttp-request).
const tracesPath = "/v1/traces"

func (v *validation) telemetry(t *millracev1.Telemetry) {
	o := t.GetOtlp()
	if o == nil {
		return
	}
	const path = "telemetry.otlp"
	if o.Endpoint != "" { // else it is missed already
		u, err := url.Parse(o.Endpoint)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			v.errorf(path+".endpoint", "not the address of a collector: http://HOST:4318")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(o.Headers)) {
		if !headerName.MatchString(name) {
			v.errorf(path+".headers."+name, "not a header name")
		}
		v.secret(path+".headers."+name, o.Headers[name])
	}
}

func (r *resolver) telemetry(t *millracev1.Telemetry) Telemetry {
	resolved := Telemetry{Propagate: t.GetPropagate(), Sample: 1}
	o := t.GetOtlp()
	if o == nil {
		return resolved
	}
	resolved.Endpoint = o.Endpoint
	if u, err := url.Parse(o.Endpoint); err == nil && (u.Path == "" || u.Path == "/") {
		resolved.Endpoint = u.JoinPath(tracesPath).String()
	}
	if o.Sample != nil {
		resolved.Sample = *o.Sample
	}
	resolved.Headers = map[string]string{}
	for name, value := range o.Headers {
		resolved.Headers[name] = r.secret("telemetry.otlp.headers."+name, value)
	}
	return resolved
}
