package config

import (
	"net/netip"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"

	millracev1 "millrace/proto/millrace/v1"
)

// TestUpstreamAddresses: addresses that no provider has are refused in each way to write them, with
// the usual one named where it is another; loopback, private and public ones are not.
func TestUpstreamAddresses(t *testing.T) {
	g := guard{
		own:   ownAddresses(gatewayAt(t, `{listen_address: 127.0.0.1, listen_port: 41002, admin: {listen: "127.0.0.1:8080", metrics: {listen: "10.1.2.3:9090"}, token: t}}`)),
		local: []netip.Addr{netip.MustParseAddr("192.0.2.7")},
	}
	anywhere := guard{own: listening("this gateway's own listener", "0.0.0.0:41002"), local: g.local}
	const linkLocal, metadata, unspecified = "link-local", "metadata service", "unspecified"
	for _, c := range []struct {
		guard guard
		host  string
		port  uint32
		want  string // in the reason; "" is allowed
	}{
		{g, "127.0.0.1", 8000, ""},
		{g, "::1", 8000, ""},
		{g, "localhost", 11434, ""},
		{g, "10.0.0.7", 8080, ""},
		{g, "192.168.1.9", 80, ""},
		{g, "172.16.0.1", 443, ""},
		{g, "fd12:3456::1", 443, ""},
		{g, "100.100.100.201", 443, ""},
		{g, "203.0.113.9", 443, ""},
		{g, "2001:db8::1", 443, ""},
		{g, "api.openai.com", 443, ""},
		{g, "API.OpenAI.com.", 443, ""},
		{g, "xn--bcher-kva.example", 443, ""},
		{g, "llm", 443, ""},
		{g, "4ever.example", 443, ""},
		{g, "0xface.example", 443, ""},
		{g, "dead.beef", 443, ""},
		{g, "64:ff9b::8.8.8.8", 443, "write 64:ff9b::808:808"},
		{g, "64:ff9b::808:808", 443, ""},

		{g, "169.254.169.254", 80, linkLocal},
		{g, "169.254.0.1", 80, linkLocal},
		{g, "169.255.0.1", 80, ""},
		{g, "fe80::1", 80, linkLocal},
		{g, "febf::1", 80, linkLocal},
		{g, "fe80::1%eth0", 80, linkLocal},
		{g, "fd00:ec2::254", 80, metadata},
		{g, "fd00:ec2::23", 80, metadata},
		{g, "fd20:ce::254", 80, metadata},
		{g, "100.100.100.200", 80, metadata},
		{g, "168.63.129.16", 80, metadata},
		{g, "metadata.google.internal", 80, metadata},
		{g, "Metadata.Google.Internal.", 80, metadata},
		{g, "metadata", 80, metadata},
		{g, "instance-data.ec2.internal", 80, metadata},
		{g, "0.0.0.0", 80, unspecified},
		{g, "0.1.2.3", 80, unspecified},
		{g, "::", 80, unspecified},
		{g, "224.0.0.1", 80, "multicast"},
		{g, "239.255.255.250", 80, "multicast"},
		{g, "ff02::1", 80, "multicast"},
		{g, "255.255.255.255", 80, "broadcast"},
		{g, "64:ff9b::a9fe:a9fe", 80, "169.254.169.254 in IPv6"},
		{g, "64:ff9b:1::a9fe:a9fe", 80, "169.254.169.254 in IPv6"},
		{g, "2002:a9fe:a9fe::1", 80, "169.254.169.254 in IPv6"},
		{g, "::a9fe:a9fe", 80, "169.254.169.254 in IPv6"},
		{g, "::ffff:0:a9fe:a9fe", 80, "169.254.169.254 in IPv6"},

		{g, "2852039166", 80, "write 169.254.169.254"},
		{g, "0xA9FEA9FE", 80, "write 169.254.169.254"},
		{g, "0xa9.0xfe.0xa9.0xfe", 80, "write 169.254.169.254"},
		{g, "0251.0376.0251.0376", 80, "write 169.254.169.254"},
		{g, "025177524776", 80, "write 169.254.169.254"},
		{g, "169.254.43518", 80, "write 169.254.169.254"},
		{g, "169.16689662", 80, "write 169.254.169.254"},
		{g, "169.0xfe.0251.254", 80, "write 169.254.169.254"},
		{g, "169.254.169.254.", 80, "write 169.254.169.254"},
		{g, "::ffff:169.254.169.254", 80, "write 169.254.169.254"},
		{g, "::FFFF:A9FE:A9FE", 80, "write 169.254.169.254"},
		{g, "0:0:0:0:0:ffff:a9fe:a9fe", 80, "write 169.254.169.254"},
		{g, "FE80::1", 80, "write fe80::1"},
		{g, "fe80:0:0::1", 80, "write fe80::1"},
		{g, "[fe80::1]", 80, "write fe80::1"},
		{g, "１６９.２５４.１６９.２５４", 80, "write 169.254.169.254"},
		{g, "169。254｡169．254", 80, "write 169.254.169.254"},
		{g, "①⑥⑨.254.169.254", 80, "ASCII"},
		{g, "bücher.example", 80, "ASCII"},
		{g, "127.1", 8000, "write 127.0.0.1"},
		{g, "0", 80, "write 0.0.0.0"},
		{g, "0x", 80, "write 0.0.0.0"},
		{g, "1", 80, "write 0.0.0.1"},
		{g, "::1%lo", 80, "write ::1"},
		{g, "1.2.3.4.5", 80, "four numbers"},
		{g, "256.1.1.1", 80, "four numbers"},
		{g, "4294967296", 80, "four numbers"},
		{g, "99999999999999999999999", 80, "four numbers"},
		{g, "127.09.0.1", 80, "write 127.9.0.1"},

		{g, "127.0.0.1", 41002, "own listener"},
		{g, "localhost", 41002, "own listener"},
		{g, "LocalHost.", 41002, "own listener"},
		{g, "llm.localhost", 41002, "own listener"},
		{g, "127.0.0.2", 41002, "health checks"},
		{g, "127.0.0.3", 41002, ""},
		{g, "::1", 41002, ""},
		{g, "192.0.2.7", 41002, ""},
		{g, "127.0.0.1", 8080, "REST API"},
		{g, "localhost", 8080, "REST API"},
		{g, "10.1.2.3", 9090, "metrics"},
		{g, "10.1.2.4", 9090, ""},
		{anywhere, "127.0.0.1", 41002, "own listener"},
		{anywhere, "127.9.9.9", 41002, "own listener"},
		{anywhere, "::1", 41002, "own listener"},
		{anywhere, "localhost", 41002, "own listener"},
		{anywhere, "192.0.2.7", 41002, "own listener"},
		{anywhere, "192.0.2.8", 41002, ""},
		{anywhere, "192.0.2.7", 41003, ""},
	} {
		got := c.guard.refuse(c.host, c.port)
		if c.want == "" && got != "" || c.want != "" && !strings.Contains(got, c.want) {
			t.Errorf("%s port %d: %q, want %q", c.host, c.port, got, c.want)
		}
	}
}

// TestAllowUpstreams: each entry lifts the refusal of what it names and of nothing else; what the
// error proposes is an entry that does.
func TestAllowUpstreams(t *testing.T) {
	own := listening("this gateway's own listener", "127.0.0.1:41002")
	for _, c := range []struct {
		entry, host string
		port        uint32
		allowed     bool
	}{
		{"169.254.169.254", "169.254.169.254", 80, true},
		{"169.254.169.254", "169.254.169.253", 80, false},
		{"169.254.169.254:80", "169.254.169.254", 80, true},
		{"169.254.169.254:80", "169.254.169.254", 8080, false},
		{"169.254.0.0/16", "169.254.1.2", 80, true},
		{"169.254.0.0/16", "fe80::1", 80, false},
		{"fe80::/10", "fe80::1%eth0", 80, true},
		{"fe80::1%eth0", "fe80::1%eth0", 80, true},
		{"[fe80::1]:80", "fe80::1", 80, true},
		{"[fe80::1]:80", "fe80::1", 81, false},
		{"64:ff9b::/96", "64:ff9b::a9fe:a9fe", 80, true},
		{"169.254.169.254", "64:ff9b::a9fe:a9fe", 80, false},
		{"Metadata.google.internal", "metadata.google.internal.", 80, true},
		{"metadata.goog", "metadata.google.internal", 80, false},
		{"localhost", "localhost", 41002, true},
		{"localhost:41002", "localhost", 41002, true},
		{"localhost:41003", "localhost", 41002, false},
		{"localhost", "127.0.0.1", 41002, false},
		{"127.0.0.0/8", "127.0.0.1", 41002, true},
		{"127.0.0.0/8", "localhost", 41002, false},
		{"169.254.0.0/16", "0xA9FEA9FE", 80, false}, // the form stays refused
	} {
		entries, wrong := parseUpstreamAddresses([]string{c.entry})
		if wrong[0] != "" {
			t.Errorf("%s: %s", c.entry, wrong[0])
			continue
		}
		reason := guard{own: own, allow: entries}.refuse(c.host, c.port)
		if (reason == "") != c.allowed {
			t.Errorf("%s allows %s port %d: %q", c.entry, c.host, c.port, reason)
		}
		if _, proposed, ok := strings.Cut(reason, `put "`); ok {
			proposed, _, _ = strings.Cut(proposed, `"`)
			entries, _ := parseUpstreamAddresses([]string{proposed})
			if again := (guard{own: own, allow: entries}).refuse(c.host, c.port); again != "" {
				t.Errorf("%s is proposed and does not help: %s", proposed, again)
			}
		}
	}
}

// TestAllowUpstreamsWrong: an entry that is none says what one is.
func TestAllowUpstreamsWrong(t *testing.T) {
	for entry, want := range map[string]string{
		"":                        "is not an address",
		"169.254.169.254/":        "is not an address",
		"169.254.0.0/33":          "is not an address",
		"169.254.1.2/16":          "want the network 169.254.0.0/16",
		"169.254.169":             "write 169.254.0.169",
		"169.254.169.254:http":    "no port",
		"169.254.169.254:0":       "no port",
		"169.254.169.254:70000":   "no port",
		"localhost:":              "no port",
		"fe80::1:x":               "is not an address",
		"::ffff:169.254.169.254":  "write 169.254.169.254",
		"http://localhost:41002":  "is not an address",
		"http://localhost":        "is not an address",
		"*.internal":              "is not an address",
		"-no-name.localhost":      "is not an address",
		"/run/llm.sock":           "is not an address",
		"unix:/run/llm.sock":      "is not an address",
		"metadata.gogle.internal": "allows nothing",
		"locahost:41002":          "allows nothing",
		"api.openai.com":          "allows nothing",
	} {
		v := &validation{}
		v.upstreamLists(&millracev1.Gateway{AllowUpstreams: []string{entry}})
		if len(v.found) != 1 || v.found[0].Path != "gateway.allow_upstreams[0]" || !strings.Contains(v.found[0].Reason, want) {
			t.Errorf("%q: %v, want %q", entry, v.found, want)
		}
	}
}

// TestAllowIsTheFilesAlone: who may write over REST cannot allow what the file does not, and what
// the file allows, and where it listens, holds for the gateways of REST too.
func TestAllowIsTheFilesAlone(t *testing.T) {
	file, err := Load("x", []byte(`gateway: {listen_port: 5000, allow_upstreams: ["169.254.1.1"]}`))
	if err != nil {
		t.Fatal(err)
	}
	added := func(gateway, target string) error {
		stored := &millracev1.Document{}
		if err := protojson.Unmarshal([]byte(`{"gateway": `+gateway+`, "upstreams": [{"name": "u", "targets": [`+target+`]}]}`), stored); err != nil {
			t.Fatal(err)
		}
		_, err := Merge(file, &millracev1.State{Documents: []*millracev1.Document{stored}})
		return err
	}
	const plain, allows = `{"name": "b", "subdomain": "b"}`, `{"name": "b", "subdomain": "b", "allow_upstreams": ["169.254.169.254"]}`
	for _, c := range []struct{ gateway, target, want string }{
		{plain, `{"host": "169.254.1.1"}`, ""},
		{plain, `{"host": "169.254.169.254"}`, "gateways[b].upstreams[0].targets[0].host: 169.254.169.254 is a link-local"},
		{allows, `{"host": "169.254.169.254"}`, "gateways[b].upstreams[0].targets[0].host: 169.254.169.254 is a link-local"},
		{allows, `{"host": "example.com"}`, "gateways[b].allow_upstreams: only the file"},
		{plain, `{"host": "127.0.0.1", "port": 5000}`, "own listener"},
		{plain, `{"host": "127.0.0.1", "port": 41002}`, ""},
	} {
		err := added(c.gateway, c.target)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s %s: %v, want %q", c.gateway, c.target, err, c.want)
		}
	}
}

// TestVia: gateways that send requests to the same places have one id, whatever their secrets,
// weights and ports are; another name, or another place, is another id. The targets that are not to
// be sent it are marked.
func TestVia(t *testing.T) {
	load := func(yaml string) *Gateway {
		t.Helper()
		c := resolved(t, yaml)
		return c.Gateways[0]
	}
	document := func(name, key, token, host, weight string) string {
		return `gateway: {name: ` + name + `, listen_port: ` + weight + `, hide_via: [one.example, "10.0.0.0/8", "two.example:8443"], admin: {token: ` + key + `}}
upstreams:
- name: u
  targets:
  - {id: a, weight: ` + weight + `, host: ` + host + `, credentials: {header_name: x-api-key, header_value: ` + key + `}, headers: {x-token: ` + token + `}}
  - {id: b, host: One.example}
  - {id: c, host: 10.1.2.3}
  - {id: d, host: two.example, port: 8443}
  - {id: e, host: two.example}
`
	}
	a := load(document("a", "key-one", "token-one", "x.example", "1"))
	for what, other := range map[string]struct {
		document string
		same     bool
	}{
		"the same":       {document("a", "key-one", "token-one", "x.example", "1"), true},
		"other secrets":  {document("a", "key-two", "token-two", "x.example", "1"), true},
		"another weight": {document("a", "key-one", "token-one", "x.example", "2"), true},
		"another name":   {document("b", "key-one", "token-one", "x.example", "1"), false},
		"another host":   {document("a", "key-one", "token-one", "y.example", "1"), false},
	} {
		if got := load(other.document).Via; (got == a.Via) != other.same || len(got) < 8 {
			t.Errorf("%s: %s and %s", what, got, a.Via)
		}
	}
	var hidden string
	for _, target := range a.Upstreams[0].Targets {
		if target.HideVia {
			hidden += target.ID
		}
	}
	if hidden != "bcd" {
		t.Errorf("not sent to %q, want bcd", hidden)
	}
}

func gatewayAt(t *testing.T, yaml string) *millracev1.Gateway {
	t.Helper()
	doc, err := Load("x", []byte("gateway: "+yaml))
	if err != nil {
		t.Fatal(err)
	}
	return doc.Gateway
}
