package strictjson

import (
	"slices"
	"testing"
)

func TestStrings(t *testing.T) {
	for _, c := range []struct {
		name, raw string
		want      []string
	}{
		{"none", `{"b":1}`, nil},
		{"a name", `{"id": "x"}`, []string{`"x"`}},
		{"a value", `{"a":"id"}`, []string{""}},
		{"inside a string", `{"a":"\"id\":\"x\""}`, nil},
		{"part of a string", `{"an id":1,"ids":2}`, nil},
		{"escapes in the value", `[{"id" : "x\"y\\"},{"id":""}]`, []string{`"x\"y\\"`, `""`}},
		{"no string", `{"id":1,"x":{"id":null}}`, []string{"", ""}},
		{"cut off", `{"id":"x`, []string{`"x`}},
	} {
		var got []string
		for rest := range Strings([]byte(c.raw), `"id"`) {
			got = append(got, string(ValueAfter(rest)))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func TestItems(t *testing.T) {
	for raw, want := range map[string]string{
		`[]`: `[]`, ` [ 1 , {"a" : [2]},"x"] `: `[1,{"a" : [2]},"x"]`, `[1`: "", `{}`: "",
	} {
		items, err := Items([]byte(raw))
		if got := string(List(items)); (err != nil) != (want == "") || err == nil && got != want {
			t.Errorf("%s: got %s, %v, want %s", raw, got, err, want)
		}
	}
}
