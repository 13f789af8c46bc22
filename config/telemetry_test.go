package config

import (
	"strings"
	"testing"
)

// TestTelemetry: where traces go, and what is refused.
func TestTelemetry(t *testing.T) {
	const rest = "\nproviders: {targets: [{provider: openai}]}\n"
	for written, want := range map[string]string{
		`{otlp: {endpoint: "http://collector:4318"}}`:                                     "http://collector:4318/v1/traces",
		`{otlp: {endpoint: "https://collector.example/otlp/v1/traces", headers: {a: b}}}`: "https://collector.example/otlp/v1/traces",
		`{propagate: true}`:                    "",
		`{otlp: {}}`:                           "telemetry.otlp.endpoint",
		`{otlp: {endpoint: "collector:4317"}}`: "telemetry.otlp.endpoint: not the address of a collector",
		`{otlp: {endpoint: "http://user:secret@collector:4318"}}`:                   "telemetry.otlp.endpoint: not the address of a collector",
		`{otlp: {endpoint: "http://collector:4318", sample: 1.5}}`:                  "telemetry.otlp.sample",
		`{otlp: {endpoint: "http://collector:4318", headers: {"a b": c}}}`:          "telemetry.otlp.headers.a b: not a header name",
		`{otlp: {endpoint: "http://collector:4318", headers: {a: {env: NOWHERE}}}}`: "telemetry.otlp.headers.a: environment variable NOWHERE is not set",
	} {
		doc, err := Load("test.yaml", []byte("telemetry: "+written+rest))
		var c *Config
		if err == nil {
			c, err = Resolve(doc)
		}
		switch {
		case err != nil && (want == "" || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v", written, err)
		case err == nil && c.Telemetry.Endpoint != want:
			t.Errorf("%s: spans go to %q, not %q", written, c.Telemetry.Endpoint, want)
		}
	}
}
