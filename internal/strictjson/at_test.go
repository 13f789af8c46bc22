package strictjson

import "testing"

func TestReplaceAt(t *testing.T) {
	for _, c := range []struct {
		body string
		path []any
		want string
	}{
		{` {"a": [1, {"b" : "old" , "c":2}], "a":3}`, []any{"a", 1, "b"}, ` {"a": [1, {"b" : "new" , "c":2}], "a":3}`},
		{`{"a":null}`, []any{"a"}, `{"a":"new"}`},
		{`[{"x":1},[2,3]]`, []any{1, 0}, `[{"x":1},["new",3]]`},
		{`{"a":[1]}`, []any{"a", 1}, `{"a":[1]}`},
		{`{"a":[1]}`, []any{"b"}, `{"a":[1]}`},
		{`{"a":1}`, []any{"a", "b"}, `{"a":1}`},
		{`{"a":1}`, []any{0}, `{"a":1}`},
		{`{"x":{"a":1},"a":"`, []any{"a"}, `{"x":{"a":1},"a":"`},
		{``, []any{"a"}, ``},
	} {
		if got := string(ReplaceAt([]byte(c.body), []byte(`"new"`), c.path...)); got != c.want {
			t.Errorf("%s at %v: got %s, want %s", c.body, c.path, got, c.want)
		}
	}
}
