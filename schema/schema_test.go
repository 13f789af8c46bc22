package schema

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// TestForeign: what one schema has for itself is foreign to every other, whether anybody speaks it
// yet or not.
func TestForeign(t *testing.T) {
	for _, s := range schemas {
		foreign := s.Foreign()
		for _, other := range schemas {
			for _, name := range other.Members {
				own := slices.Contains(s.Members, name) || slices.Contains(s.Extensions, name)
				if foreign[name] == own {
					t.Errorf("%s: %s of %s is foreign: %v", s.Name, name, other.Name, foreign[name])
				}
			}
		}
	}
	for _, c := range []struct {
		to      Name
		foreign string // as TestForeign of the codecs' golden files need them, and one of each row
		own     string
	}{
		{OpenAIChat, "stop_sequences mcp_servers input cached_content inferenceConfig", "model stop top_k thinking reasoning system min_p"},
		{AnthropicMessages, "stop user reasoning previous_response_id cached_content inferenceConfig", "model top_k thinking metadata service_tier min_p"},
	} {
		foreign := Of(c.to).Foreign()
		for _, name := range strings.Fields(c.foreign) {
			if !foreign[name] {
				t.Errorf("%s takes %s", c.to, name)
			}
		}
		for _, name := range strings.Fields(c.own) {
			if foreign[name] {
				t.Errorf("%s does not take %s", c.to, name)
			}
		}
	}
}

// TestRows: a row says all that its readers need.
func TestRows(t *testing.T) {
	seen := map[Name]bool{}
	for i, s := range schemas {
		if seen[s.Name] {
			t.Errorf("%s has two rows", s.Name)
		}
		seen[s.Name] = true
		if family, _, _ := strings.Cut(string(s.Name), "."); family != s.Family {
			t.Errorf("%s is of the family %s", s.Name, s.Family)
		}
		if !slices.IsSorted(s.Members) || len(slices.Compact(slices.Clone(s.Members))) != len(s.Members) {
			t.Errorf("%s: members are not sorted, or twice there", s.Name)
		}
		if len(s.Operations) == 0 {
			continue
		}
		if s.Operations[0].Name != Conversation || s.Framing == (Framing{}) || s.Prompt.Turns == "" || s.Base == "" || s.Version == "" {
			t.Errorf("%s lacks what everybody has", s.Name)
		}
		for _, name := range s.Output.Limits {
			if !slices.Contains(s.Members, name) {
				t.Errorf("%s: the limit %s is none of its members", s.Name, name)
			}
		}
		for _, list := range s.Tools {
			if !slices.Contains(s.Members, list.Member) || len(list.Names) == 0 {
				t.Errorf("%s: %s lists no tools", s.Name, list.Member)
			}
		}
		if (s.Sniff == Sniff{}) != (i == 0) {
			t.Errorf("%s: the first, and no other, is what all others speak", s.Name)
		}
		if h := s.Auth.Header; h == "" || h != http.CanonicalHeaderKey(h) {
			t.Errorf("%s: keys are sent in %q", s.Name, h)
		}
		for _, name := range slices.Concat(s.RequestHeaders, s.ResponsePrefixes, slices.Collect(maps.Keys(s.Headers)), []string{s.Sniff.Header}) {
			if name != strings.ToLower(name) {
				t.Errorf("%s: the header %s is not in lower case", s.Name, name)
			}
		}
		if !json.Valid([]byte(s.Error.Body)) || !strings.Contains(s.Error.Body, `"`+Message+`"`) || !strings.Contains(s.Error.Body, `"`+ErrorType+`"`) {
			t.Errorf("%s: errors are %s", s.Name, s.Error.Body)
		}
	}
	for _, p := range providers {
		if !seen[p.Schema] && p.Schema != Static {
			t.Errorf("%s speaks %s", p.Name, p.Schema)
		}
	}
}

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern Pattern
		path    string
		want    Params // nil: none
	}{
		{"/messages", "/messages", Params{}},
		{"/messages", "/messages/", nil},
		{"/messages", "/messages/count_tokens", nil},
		{"/messages", "messages", nil},
		{"/models/{model}:generateContent", "/models/gemini-3:generateContent", Params{"model": "gemini-3"}},
		{"/models/{model}:generateContent", "/models/a:b:generateContent", Params{"model": "a:b"}},
		{"/models/{model}:generateContent", "/models/:generateContent", nil},
		{"/models/{model}:generateContent", "/models/a/b:generateContent", nil},
		{"/model/{model}/converse", "/model/a%2Fb/converse", Params{"model": "a/b"}},
		{"/model/{model}/converse", "/model/a%2/converse", nil},
		{"/m/{model}:{method=ask}", "/m/a:b:ask", Params{"model": "a:b", "method": "ask"}},
		{"/m/{model}:{method=ask}", "/m/a:tell", nil},
		{"/{v=v1}x/{id}", "/v1x/7", Params{"v": "v1", "id": "7"}},
		{"/{v=v1}x/{id}", "/v2x/7", nil},
		{"/p{part}p", "/pp", nil},
		{"/p{part}p", "/p", nil},
		{"/{a}/x/{b}", "/1/x/2", Params{"a": "1", "b": "2"}},
	} {
		got, ok := c.pattern.Match(c.path)
		if ok != (c.want != nil) || !maps.Equal(got, c.want) {
			t.Errorf("%s in %s: %v, %v", c.pattern, c.path, got, ok)
		}
	}
}

// TestPath: a path of params, which are found in it again; "" for none.
func TestPath(t *testing.T) {
	for _, c := range []struct {
		pattern Pattern
		params  Params
		want    string
	}{
		{"/messages", nil, "/messages"},
		{"/messages", Params{"a": "b"}, "/messages"},
		{"/m/{model}:{method=ask}", Params{"model": "a:b"}, "/m/a:b:ask"},
		{"/m/{model}:{method=ask}", Params{"model": "a/b?c d", "method": "ask"}, "/m/a%2Fb%3Fc%20d:ask"},
		{"/m/{model}:{method=ask}", Params{"model": "a", "method": "tell"}, ""},
		{"/m/{model}:{method=ask}", Params{"method": "ask"}, ""},
		{"/m/{model}:{method=ask}", nil, ""},
		{"/m/{model}/x", Params{"model": ".."}, ""},
		{"/m/{model}/x", Params{"model": "a/../b"}, ""},
		{"/m/{model}/x", Params{"model": "..a"}, "/m/..a/x"},
	} {
		got, ok := c.pattern.Path(c.params)
		if got != c.want || ok != (c.want != "") {
			t.Errorf("%s of %v: %q, %v", c.pattern, c.params, got, ok)
		}
		found, ok := c.pattern.Match(got)
		for name, value := range found {
			if said, known := c.params[name]; known && said != value {
				t.Errorf("%s: %v is found in %s", c.pattern, found, got)
			}
		}
		if c.want != "" && !ok {
			t.Errorf("%s is not in %s", c.pattern, got)
		}
	}
	if got := Pattern("/m/{model}:{method=ask}").String(); got != "/m/{model}:ask" {
		t.Error(got)
	}
}

func TestBelowVersion(t *testing.T) {
	for path, want := range map[string]string{"/v1/messages": "/messages", "/v1": "", "/v1beta/models": "/v1beta/models", "/messages": "/messages", "": ""} {
		if got := BelowVersion(path); got != want {
			t.Errorf("%s: %s", path, got)
		}
	}
}

func TestGuess(t *testing.T) {
	for _, c := range []struct {
		path, header string
		want         Name
	}{
		{"/v1/chat/completions", "", OpenAIChat},
		{"/", "", OpenAIChat},
		{"/", "anthropic-version", AnthropicMessages},
		{"/team/messages", "", AnthropicMessages},
		{"/v1/chat/completions", "accept", OpenAIChat},
	} {
		if got := Guess(c.path, func(name string) bool { return name == c.header }); got.Name != c.want {
			t.Errorf("%s with %q: %s", c.path, c.header, got.Name)
		}
	}
}

// TestOwned: what a schema has for itself goes to its own, and what is nobody's to all.
func TestOwned(t *testing.T) {
	chat, messages := Of(OpenAIChat), Of(AnthropicMessages)
	if chat.Takes("anthropic-beta") || !messages.Takes("anthropic-beta") || !chat.Takes("accept") || !messages.Takes("accept") {
		t.Error("a header of one schema goes to another, or one of nobody's does not")
	}
	if chat.Status(529) != 503 || messages.Status(529) != 529 || chat.Status(429) != 429 {
		t.Error("a status of one schema's own goes to clients of another, or one of nobody's does not")
	}
	if chat.Tells("anthropic-ratelimit-requests-limit") || !messages.Tells("anthropic-ratelimit-requests-limit") || !chat.Tells("openai-version") {
		t.Error("headers of an answer go to clients of another schema")
	}
}

func TestProviders(t *testing.T) {
	for host, want := range map[string]Provider{
		"api.openai.com":    {"openai", "api.openai.com", OpenAIChat, "openai", "/v1", Auth{"Authorization", "Bearer "}, ""},
		"api.anthropic.com": {"anthropic", "api.anthropic.com", AnthropicMessages, "", "/v1", Auth{"X-Api-Key", ""}, ""},
		"api.mistral.ai":    {"mistral", "api.mistral.ai", OpenAIChat, "mistral", "/v1", Auth{"Authorization", "Bearer "}, "mistral_ai"},
		"api.groq.com":      {"groq", "api.groq.com", OpenAIChat, "groq", "/openai/v1", Auth{"Authorization", "Bearer "}, ""},
		"openrouter.ai":     {"openrouter", "openrouter.ai", OpenAIChat, "", "/api/v1", Auth{"Authorization", "Bearer "}, ""},
		"localhost":         {"openai", "", OpenAIChat, "", "/v1", Auth{"Authorization", "Bearer "}, ""},
		"":                  {"openai", "", OpenAIChat, "", "/v1", Auth{"Authorization", "Bearer "}, ""},
	} {
		got := On(host)
		if got != want {
			t.Errorf("%s: %+v", host, got)
		}
		if got.Foreigner() != (want.Name == "mistral" || want.Name == "groq") {
			t.Errorf("%s: foreigner %v", host, got.Foreigner())
		}
	}
	if got, ok := Named("azure"); !ok || got != (Provider{"azure", "", OpenAIChat, "azure", "/openai/v1", Auth{"Api-Key", ""}, "azure.ai.openai"}) {
		t.Errorf("%+v", got)
	}
	if _, ok := Named("nobody"); ok {
		t.Error("nobody has a row")
	}
}
