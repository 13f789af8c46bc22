package admin

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/structpb"

	"millrace/config"
	millracev1 "millrace/proto/millrace/v1"
)

// TestMergePatch runs the examples of RFC 7396, appendix A, whose patches are objects, and some of
// the others.
func TestMergePatch(t *testing.T) {
	for _, c := range [][3]string{
		{`{"a":"b"}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"b"}`, `{"b":"c"}`, `{"a":"b","b":"c"}`},
		{`{"a":"b"}`, `{"a":null}`, `{}`},
		{`{"a":"b","b":"c"}`, `{"a":null}`, `{"b":"c"}`},
		{`{"a":["b"]}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"c"}`, `{"a":["b"]}`, `{"a":["b"]}`},
		{`{"a":{"b":"c"}}`, `{"a":{"b":"d","c":null}}`, `{"a":{"b":"d"}}`},
		{`{"a":[{"b":"c"}]}`, `{"a":[1]}`, `{"a":[1]}`},
		{`["a","b"]`, `["c","d"]`, `["c","d"]`},
		{`{"a":"foo"}`, `null`, `null`},
		{`{"e":null}`, `{"a":1}`, `{"e":null,"a":1}`},
		{`[1,2]`, `{"a":"b","c":null}`, `{"a":"b"}`},
		{`{}`, `{"a":{"bb":{"ccc":null}}}`, `{"a":{"bb":{}}}`},
	} {
		var target, patch, want any
		json.Unmarshal([]byte(c[0]), &target)
		json.Unmarshal([]byte(c[1]), &patch)
		json.Unmarshal([]byte(c[2]), &want)
		if diff := cmp.Diff(want, mergePatch(target, patch)); diff != "" {
			t.Errorf("%s patched by %s (-want +got):\n%s", c[0], c[1], diff)
		}
	}
}

// FuzzPatch patches an upstream: whatever comes out is either refused with a path or reads back as
// itself, and the empty patch changes nothing.
func FuzzPatch(f *testing.F) {
	f.Add(`{"targets": [{"id": "a", "provider": "openai", "weight": 3}]}`)
	f.Add(`{"name": "\u2028\ud83d\ude00\u0085", "retry": null, "health_checks": {"active": {"path": "/x", "interval": "1.5s"}}}`)
	f.Add("a name\x7f\u0085\u2028\ufeff\U0001f600: - # &")
	f.Add(`{"algorithm": 1e400, "targets": {"a": null}}`)
	f.Fuzz(func(t *testing.T, text string) {
		stored := &millracev1.Upstream{Name: "chat", Targets: []*millracev1.Target{{
			Id: "openai-1", Provider: &millracev1.Provider{Name: "openai"}, Weight: proto.Uint32(2),
			Credentials: &millracev1.Credentials{HeaderName: "X-Key", HeaderValue: &millracev1.Secret{Source: &millracev1.Secret_Literal{Literal: "s"}}},
		}}}
		patch := &structpb.Struct{}
		if protojson.Unmarshal([]byte(text), patch) != nil {
			patch = &structpb.Struct{Fields: map[string]*structpb.Value{"name": structpb.NewStringValue(strings.ToValidUTF8(text, ""))}}
		}
		next, err := patched(stored, patch)
		if err != nil {
			if p := problemOf(err); p.Status >= 500 || len(p.Errors) == 0 && p.Detail == "" {
				t.Fatalf("%+v", p)
			}
			if len(patch.Fields) == 0 {
				t.Fatal(err)
			}
			return
		}
		again, err := patched(next, &structpb.Struct{})
		if err != nil {
			t.Fatalf("our own form is refused: %v", err)
		}
		if diff := cmp.Diff(config.Redact(next), again, protocmp.Transform()); diff != "" {
			t.Fatalf("our own form reads back as something else (-want +got):\n%s", diff)
		}
	})
}
