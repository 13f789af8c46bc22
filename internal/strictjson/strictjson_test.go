package strictjson

import (
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

func TestScanRefusesWhatParsersDisagreeAbout(t *testing.T) {
	for name, c := range map[string]struct{ body, want string }{
		"empty":                  {"", "empty body"},
		"white space only":       {" \n", "empty body"},
		"not an object":          {`[1]`, "want a JSON object"},
		"cut short":              {`{"model":"x"`, "ends in the middle"},
		"duplicate":              {`{"model":"a","model":"b"}`, `duplicate name "model"`},
		"duplicate, escaped":     {`{"model":"a","mod\u0065l":"b"}`, `duplicate name "model"`},
		"duplicate, deep":        {`{"a":[{"b":1,"b":2}]}`, `duplicate name "b"`},
		"invalid UTF-8":          {"{\"a\":\"\xff\"}", "invalid UTF-8"},
		"lone surrogate":         {`{"a":"\ud800"}`, "surrogate"},
		"two values":             {`{} {}`, "more than one"},
		"garbage behind":         {`{}x`, "invalid character"},
		"leading zero":           {`{"a":01}`, "invalid character"},
		"control character":      {"{\"a\":\"\x01\"}", "invalid character"},
		"trailing comma":         {`{"a":1,}`, "invalid character"},
		"the place is named":     {`{"a":{"b":[1,nul]}}`, "/a/b/1"},
		"HTML instead of a body": {`<html>`, "invalid character"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Scan([]byte(c.body))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got error %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestPatchChangesOnlyWhatItWasTold(t *testing.T) {
	for name, c := range map[string]struct {
		body string
		do   func(*Patch)
		want string
	}{
		"nothing":             {`{ "a" : 1.0 }`, func(*Patch) {}, `{ "a" : 1.0 }`},
		"set keeps spacing":   {"{ \"b\" : 1e400,\n \"model\" : \"x\" ,\"c\":2}", func(p *Patch) { p.Set("model", []byte(`"y"`)) }, "{ \"b\" : 1e400,\n \"model\" : \"y\" ,\"c\":2}"},
		"add":                 {`{"a":1}`, func(p *Patch) { p.Set("b", []byte(`{}`)) }, `{"a":1,"b":{}}`},
		"add to empty":        {`{}`, func(p *Patch) { p.Set("b", []byte(`{}`)) }, `{"b":{}}`},
		"remove first":        {`{"a":1, "b":2}`, func(p *Patch) { p.Remove("a") }, `{ "b":2}`},
		"remove middle":       {`{"a":1,"b":2,"c":3}`, func(p *Patch) { p.Remove("b") }, `{"a":1,"c":3}`},
		"remove last":         {`{"a":1,"b":2}`, func(p *Patch) { p.Remove("b") }, `{"a":1}`},
		"remove first two":    {`{"a":1,"b":2,"c":3}`, func(p *Patch) { p.Remove("a"); p.Remove("b") }, `{"c":3}`},
		"remove only":         {`{"a":1}`, func(p *Patch) { p.Remove("a") }, `{}`},
		"remove only and add": {`{"a":1}`, func(p *Patch) { p.Remove("a"); p.Set("b", []byte(`2`)) }, `{"b":2}`},
		"remove what is not":  {`{"a":1}`, func(p *Patch) { p.Remove("z") }, `{"a":1}`},
		"add, then remove":    {`{"a":1}`, func(p *Patch) { p.Set("z", []byte(`1`)); p.Remove("z") }, `{"a":1}`},
		"set twice":           {`{}`, func(p *Patch) { p.Set("z", []byte(`1`)); p.Set("z", []byte(`2`)) }, `{"z":2}`},
	} {
		t.Run(name, func(t *testing.T) {
			members, err := Scan([]byte(c.body))
			if err != nil {
				t.Fatal(err)
			}
			p := NewPatch([]byte(c.body), members)
			c.do(p)
			if got := string(p.Bytes()); got != c.want {
				t.Fatalf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func FuzzPatch(f *testing.F) {
	f.Add([]byte(`{"a":1, "b":{"c":[]},"d":""}`), "b")
	f.Add([]byte("{\r\n}"), "x")
	f.Fuzz(func(t *testing.T, body []byte, name string) {
		members, err := Scan(body)
		if err != nil {
			return
		}
		if !jsontext.Value(body).IsValid() {
			t.Fatalf("accepted invalid JSON %q", body)
		}
		if _, err := jsontext.AppendQuote(nil, name); err != nil {
			return
		}
		p := NewPatch(body, members)
		for i, m := range members {
			if i%2 == 0 {
				p.Remove(m.Name)
			}
		}
		p.Set(name, []byte(`[1]`))
		again, err := Scan(p.Bytes())
		if err != nil {
			t.Fatalf("patch of %q is %q: %v", body, p.Bytes(), err)
		}
		if got := NewPatch(p.Bytes(), again).Get(name); string(got) != "[1]" {
			t.Fatalf("patch of %q is %q: %q is %q", body, p.Bytes(), name, got)
		}
	})
}

func BenchmarkScan(b *testing.B) {
	body := []byte(`{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"` + strings.Repeat("lorem ipsum ", 1700) + `"}]}`)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Scan(body); err != nil {
			b.Fatal(err)
		}
	}
}
