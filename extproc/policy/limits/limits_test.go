package limits

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"millrace/internal/strictjson"
	"millrace/schema"
)

// TestNames: which names two lists allow.
func TestNames(t *testing.T) {
	for _, c := range []struct {
		allow, deny string // patterns, with spaces between them
		name        string
		want        bool
	}{
		{"", "", "gpt-5", true},
		{"gpt-5", "", "gpt-5", true},
		{"gpt-5", "", "gpt-5-mini", false},
		{"gpt-*", "", "gpt-5-mini", true},
		{"gpt-* claude-*", "", "claude-opus-4-6", true},
		{"gpt-?", "", "gpt-5", true},
		{"gpt-?", "", "gpt-", false},
		{"gpt-[45]*", "", "gpt-4o", true},
		{"gpt-[45]*", "", "gpt-3.5", false},
		{"", "*", "gpt-5", false},
		{"gpt-*", "*-preview", "gpt-5-preview", false},
		{"gpt-5", "gpt-5", "gpt-5", false},
		{"", "*preview*", "openai/gpt-5-preview", false},
		{"meta-llama/*", "", "meta-llama/Llama-3.3-70B", true},
		{"meta-llama/*", "", "mistralai/mixtral", false},
		{"*/gpt-5", "", "azure/eu/gpt-5", true},
		{"a?b", "", "a/b", true},
		{"a[b/]c", "", "a/c", true},
		{"GPT-5", "", "gpt-5", true},
		{"", "llama*", "LLaMA-3", false},
		{`a\*`, "", "a*", true},
		{`a\*`, "", "ab", false},
		{"*", "", "", true},
		{"gpt-*", "", "", false},
		{"modèle-*", "", "modèle-1", true},
	} {
		n, err := NewNames(strings.Fields(c.allow), strings.Fields(c.deny))
		if err != nil {
			t.Fatal(err)
		}
		if got := n.Allows(c.name); got != c.want {
			t.Errorf("allow %q, deny %q: %q is allowed: %v", c.allow, c.deny, c.name, got)
		}
	}
	if !new(Names).Allows("gpt-5") {
		t.Error("the zero value allows nothing")
	}
}

func TestWrongNames(t *testing.T) {
	for _, c := range []struct {
		allow, deny []string
		want        string
	}{
		{[]string{"a", "[a"}, nil, `allow[1]: "[a" is no pattern`},
		{nil, []string{`a\`}, `deny[0]: "a\\" is no pattern`},
		{nil, []string{"a", ""}, "deny[1]: the pattern is empty"},
	} {
		if _, err := NewNames(c.allow, c.deny); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
}

// TestManyStars: no pattern is slow for any name; a matcher that tries all ways does not return.
func TestManyStars(t *testing.T) {
	n, err := NewNames([]string{strings.Repeat("a*", 500) + "b"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n.Allows(strings.Repeat("a", 20_000)) {
		t.Error("it is allowed")
	}
}

func scan(t *testing.T, body string) []strictjson.Member {
	t.Helper()
	members, err := strictjson.Scan([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return members
}

// TestTools: what the tools of a request are called, and how large it is.
func TestTools(t *testing.T) {
	for name, c := range map[string]struct {
		schema   schema.Name
		body     string
		tools    []string
		messages int
	}{
		"none":              {schema.OpenAIChat, `{"messages":[{},{}]}`, nil, 2},
		"functions":         {schema.OpenAIChat, `{"tools":[{"type":"function","function":{"name":"a"}},{"function":{"description":"x","name":"b\u0063"}}],"messages":[{}]}`, []string{"a", "bc"}, 1},
		"custom":            {schema.OpenAIChat, `{"tools":[ {"type":"custom","custom" : {"name":"c"}} ]}`, []string{"c"}, 0},
		"two names":         {schema.OpenAIChat, `{"tools":[{"function":{"name":"a"},"custom":{"name":"c"}}]}`, []string{"a", "c"}, 0},
		"the older list":    {schema.OpenAIChat, `{"functions":[{"name":"f"}],"tools":[{"function":{"name":"a"}}]}`, []string{"a", "f"}, 0},
		"the provider's":    {schema.OpenAIChat, `{"tools":[{"type":"web_search"}]}`, []string{"web_search"}, 0},
		"without a name":    {schema.OpenAIChat, `{"tools":[{},7,{"function":[]},{"function":{"name":1}}]}`, []string{"", "", "", ""}, 0},
		"no lists":          {schema.OpenAIChat, `{"tools":{"a":1},"functions":null,"messages":"x"}`, nil, 0},
		"anthropic":         {schema.AnthropicMessages, `{"tools":[{"name":"a","input_schema":{"name":"no"}},{"type":"web_search_20250305","name":"web_search"},{"type":"mcp_toolset"}],"messages":[{},{},{}]}`, []string{"a", "web_search", "mcp_toolset"}, 3},
		"one that has none": {"google.generate", `{"tools":[{"name":"a"}]}`, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s, members := schema.Of(c.schema), scan(t, c.body)
			if got := Tools(s, []byte(c.body), members); !slices.Equal(got, c.tools) {
				t.Errorf("%q, want %q", got, c.tools)
			}
			size := Measure(s, []byte(c.body), members, 2, 100)
			if size.Messages != c.messages || size.TextBytes != 100 || size.Tokens != 33 {
				t.Errorf("%+v", size)
			}
		})
	}
}

// TestWithin: the first bound that a request goes beyond is said; 0 is none.
func TestWithin(t *testing.T) {
	size := Size{TextBytes: 1000, Tokens: 300, Messages: 5, Tools: 2}
	for _, c := range []struct {
		most Size
		want string
	}{
		{Size{}, ""},
		{size, ""},
		{Size{TextBytes: 999}, "the prompt has 1000 bytes of text, and at most 999 are allowed"},
		{Size{TextBytes: 2000, Tokens: 299}, "the prompt has 300 tokens (estimated), and at most 299 are allowed"},
		{Size{Messages: 4}, "the prompt has 5 messages, and at most 4 are allowed"},
		{Size{Messages: 5, Tools: 1}, "the prompt has 2 tools, and at most 1 are allowed"},
	} {
		got := ""
		if err := size.Within(c.most); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%+v: %q, want %q", c.most, got, c.want)
		}
	}
}

// TestClamp: the limit of the output is lowered or added, and no other byte changes.
func TestClamp(t *testing.T) {
	for name, c := range map[string]struct {
		schema     schema.Name
		body, want string // want "": the body itself
	}{
		"a lower one":         {schema.OpenAIChat, `{"model":"m", "max_tokens": 100}`, ""},
		"the same":            {schema.OpenAIChat, `{"max_completion_tokens":500}`, ""},
		"a larger one":        {schema.OpenAIChat, "{\"model\" : \"m\",\n \"max_tokens\" : 501 , \"x\":[1, 2]}", "{\"model\" : \"m\",\n \"max_tokens\" : 500 , \"x\":[1, 2]}"},
		"the newer member":    {schema.OpenAIChat, `{"max_completion_tokens":100000}`, `{"max_completion_tokens":500}`},
		"both":                {schema.OpenAIChat, `{"max_tokens":100,"max_completion_tokens":9999}`, `{"max_tokens":100,"max_completion_tokens":500}`},
		"both too large":      {schema.OpenAIChat, `{"max_tokens":9998,"max_completion_tokens":9999}`, `{"max_tokens":500,"max_completion_tokens":500}`},
		"none":                {schema.OpenAIChat, `{"model":"m" }`, `{"model":"m","max_completion_tokens":500 }`},
		"none in nothing":     {schema.OpenAIChat, `{}`, `{"max_completion_tokens":500}`},
		"null":                {schema.OpenAIChat, `{"max_tokens":null}`, `{"max_tokens":null,"max_completion_tokens":500}`},
		"null where it goes":  {schema.OpenAIChat, `{"max_completion_tokens":null,"a":1}`, `{"max_completion_tokens":500,"a":1}`},
		"one that is too big": {schema.OpenAIChat, `{"max_tokens":99999999999999999999999}`, `{"max_tokens":500}`},
		"an exponent":         {schema.OpenAIChat, `{"max_tokens":1e9}`, `{"max_tokens":500}`},
		"a string":            {schema.OpenAIChat, `{"max_tokens":"100000"}`, `{"max_tokens":500}`},
		"a negative one":      {schema.OpenAIChat, `{"max_tokens":-1}`, `{"max_tokens":500}`},
		"zero":                {schema.OpenAIChat, `{"max_tokens":0}`, `{"max_tokens":500}`},
		"escapes in the name": {schema.OpenAIChat, `{"max\u005ftokens":700}`, `{"max\u005ftokens":500}`},
		"deeper down":         {schema.OpenAIChat, `{"a":{"max_tokens":700},"max_tokens":1}`, ""},
		"anthropic":           {schema.AnthropicMessages, `{"max_tokens":64000,"messages":[]}`, `{"max_tokens":500,"messages":[]}`},
		"anthropic: none":     {schema.AnthropicMessages, `{"messages":[]}`, `{"messages":[],"max_tokens":500}`},
		"anthropic: zero":     {schema.AnthropicMessages, `{"max_tokens":0}`, ""},
		"anthropic: foreign":  {schema.AnthropicMessages, `{"max_tokens":7,"max_completion_tokens":900}`, ""},
		"without limits":      {"google.generate", `{"max_tokens":900}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, changed := Clamp(schema.Of(c.schema), []byte(c.body), scan(t, c.body), 500)
			want := c.want
			if want == "" {
				want = c.body
			}
			if string(got) != want || changed != (c.want != "") {
				t.Errorf("%s, %v\nwant %s", got, changed, want)
			}
		})
	}
}

// FuzzClamp: what is clamped is a request again, has no larger limit, and is not clamped twice.
func FuzzClamp(f *testing.F) {
	f.Add([]byte(`{"model":"m", "max_tokens": 100000 ,"max_completion_tokens":null}`))
	f.Add([]byte(` { } `))
	f.Add([]byte(`{"tools":[{"function":{"name":"a"}}],"functions":[[]]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		members, err := strictjson.Scan(body)
		if err != nil {
			return
		}
		for _, s := range schema.All() {
			clamped, changed := Clamp(s, body, members, 500)
			again, err := strictjson.Scan(clamped)
			if err != nil {
				t.Fatalf("%s becomes %s: %v", body, clamped, err)
			}
			if len(again) < len(members) || !changed && string(clamped) != string(body) {
				t.Errorf("%s becomes %s", body, clamped)
			}
			if _, changed := Clamp(s, clamped, again, 500); changed {
				t.Errorf("%s is clamped twice", clamped)
			}
			Tools(s, body, members)
			Measure(s, body, members, 0, 0)
		}
	})
}

func BenchmarkAllows(b *testing.B) {
	var allow []string
	for i := range 50 {
		allow = append(allow, fmt.Sprintf("provider-%d/*", i))
	}
	n, err := NewNames(allow, []string{"*preview*", "*-beta"})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if !n.Allows("provider-49/model-1") {
			b.Fatal("not allowed")
		}
	}
}

func BenchmarkClamp(b *testing.B) {
	body := []byte(`{"model":"m","max_tokens":100000,"messages":[{"role":"user","content":"` + strings.Repeat("x", 20_000) + `"}]}`)
	members, err := strictjson.Scan(body)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		Clamp(schema.Of(schema.OpenAIChat), body, members, 500)
	}
}
