package strictjson

import (
	"strings"
	"testing"
)

func TestBounds(t *testing.T) {
	b := Bounds{Members: 3, Items: 4, Nested: 6, Depth: 3}
	for _, c := range []struct{ what, body, says string }{
		{"empty", `{}`, ""},
		{"members", `{"a":1,"b":2,"c":3}`, ""},
		{"a member too many", `{"a":1,"b":2,"c":3,"d":4}`, "more than 3 members, at byte 18"},
		{"members further down are free", `{"a":{"a":1,"b":2,"c":3,"d":4,"e":5}}`, ""},
		{"items", `{"a":[1,2,3,4]}`, ""},
		{"an item too many", `{"a":[1,2,3,4,5]}`, "a list of more than 4 items"},
		{"an item too many further down", `{"a":{"b":["","","","",""]}}`, "a list of more than 4 items"},
		{"lists are counted one by one", `{"a":[1,2,3,4],"b":[1,2,3,4]}`, ""},
		{"nested", `{"a":[{},{},{},{}]}`, ""},
		{"too much nested", `{"a":[{},{},{},[]],"b":[]}`, "more than 6 objects and lists"},
		{"depth", `{"a":[[1]]}`, ""},
		{"too deep", `{"a":[[{}]]}`, "more than 3 levels"},
		{"strings", `{"a":"[[[[,,,,{{{{","b,,,,":",","c":"\\"}`, ""},
		{"escapes", `{"a":"\\\",,,,,[[[[","b":"\"","c":["\\\\","\\"]}`, ""},
		{"behind an escape", `{"a":"\\","b":[[[1]]]}`, "more than 3 levels"},
	} {
		if _, err := Scan([]byte(c.body)); err != nil {
			t.Fatalf("%s: %v", c.what, err)
		}
		switch err := b.Check([]byte(c.body)); {
		case err == nil && c.says != "", err != nil && (c.says == "" || !strings.Contains(err.Error(), c.says)):
			t.Errorf("%s: %v, want %q", c.what, err, c.says)
		}
	}
}

// FuzzBounds: no body that Scan accepts makes Check fail in another way, and wide bounds let all
// pass.
func FuzzBounds(f *testing.F) {
	f.Add([]byte(`{"a":"\\\",","b":[{},[1,2]]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		members, err := Scan(body)
		if err != nil {
			return
		}
		if err := (Bounds{Members: len(body), Items: len(body), Nested: len(body), Depth: len(body)}).Check(body); err != nil {
			t.Error(err)
		}
		if err := (Bounds{Members: len(members) - 1, Items: len(body), Nested: len(body), Depth: len(body)}).Check(body); err == nil && len(members) > 1 {
			t.Error("a member too many is not seen")
		}
	})
}

func BenchmarkBounds(b *testing.B) {
	body := []byte(`{"model":"m","messages":[` + strings.Repeat(`{"role":"user","content":"what is the weather like today in the north?"},`, 1000) + `{}]}`)
	bounds := Bounds{Members: 1000, Items: 20_000, Nested: 250_000, Depth: 256}
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if err := bounds.Check(body); err != nil {
			b.Fatal(err)
		}
	}
}
