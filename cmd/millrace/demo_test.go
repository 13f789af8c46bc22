package main

import (
	"strings"
	"testing"

	"millrace/config"
)

// TestGreeting: the demo prints only URLs that the configuration has.
func TestGreeting(t *testing.T) {
	const upstream = "upstreams: [{name: u, targets: [{provider: openai}]}]\nservices: [{name: s, upstream: u}]\n"
	for document, want := range map[string][]string{
		"gateway: {listen_port: 1234}\nproviders: {targets: [{provider: openai}]}":                     {" localhost:1234/v1/chat", "\"stream\":true"},
		upstream + "rules: [{path: /v1, service: s}, {path: /failover, service: s, strip_path: true}]": {" localhost:41002/v1/chat", " localhost:41002/failover/v1/chat"},
		upstream + "rules: [{path: /failover, service: s}]":                                            {" localhost:41002/failover/v1/chat"},
		upstream + "rules: [{path: /v1, service: s, methods: [GET]}]":                                  {"none of the URLs"},
		upstream + "rules: [{path: /v1, service: s, models: [m]}]":                                     {"none of the URLs"},
		upstream + "rules: [{path: /, service: s}]":                                                    {" localhost:41002/v1/chat"},
		"gateway: {tls: {cert_file: c, key_file: k}}\nproviders: {targets: [{provider: openai}]}":      {"curl -sk https://localhost:41002/v1/chat"},
		upstream: {"none of the URLs"},
	} {
		doc, err := config.Load("x", []byte(document))
		if err != nil {
			t.Fatal(err)
		}
		c, err := config.Resolve(doc)
		if err != nil {
			t.Fatal(err)
		}
		var said strings.Builder
		(&demo{}).greet(&said, c, "127.0.0.1:8080")
		for _, text := range append(want, "http://127.0.0.1:8080/ ") {
			if !strings.Contains(said.String(), text) {
				t.Errorf("%s: lacks %q:\n%s", document, text, &said)
			}
		}
		for _, url := range []string{"/v1/chat", "/failover/v1/chat"} {
			if had := strings.Contains(strings.Join(want, " "), "1002"+url) || strings.Contains(strings.Join(want, " "), "1234"+url); strings.Contains(said.String(), " localhost:41002"+url) && !had {
				t.Errorf("%s: prints %s, which it does not have:\n%s", document, url, &said)
			}
		}
	}
}
