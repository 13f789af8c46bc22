package openai

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"millrace/extproc/llm"
)

// TestExtra: what has no field goes from one schema of the family to another in its own words, as
// far as the target takes it.
func TestExtra(t *testing.T) {
	const body = `{"model":"m","messages":[{"role":"user","content":"hi","annotations":[1]}],"store":true,"metadata":{"a":1.0},"verbosity":"low",` +
		`"prompt_cache_key":"k<","safety_identifier":"s","user":"u","container":"c","min_p":0.1,"modalities":["text"],"logit_bias":null}`
	asked, err := Chat{}.DecodeRequest(llm.Head{Model: "m"}, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	own := []string{`"store":true`, `"metadata":{"a":1.0}`, `"verbosity":"low"`, `"prompt_cache_key":"k<"`, `"safety_identifier":"s"`}
	for name, c := range map[string]struct {
		family, dialect string
		said            []string
		lost            string
	}{
		"of the family":     {"openai", "openai", own, "messages[].annotations container min_p"},
		"of a server":       {"openai", "", own, "messages[].annotations container min_p"},
		"of one that lacks": {"openai", "mistral", own[1:2], "messages[].annotations container min_p store verbosity prompt_cache_key safety_identifier user"},
		"of another family": {"anthropic", "openai", nil, "safety_identifier metadata messages[].annotations store verbosity prompt_cache_key container min_p"},
	} {
		from := *asked
		from.Family = c.family
		call, err := Chat{}.EncodeRequest(&from, llm.Options{Model: "m", Dialect: c.dialect})
		if err != nil {
			t.Fatal(err)
		}
		var sent map[string]json.RawMessage
		if err := json.Unmarshal(call.Body, &sent); err != nil {
			t.Fatalf("%s: %v in %s", name, err, call.Body)
		}
		for _, member := range own {
			if has := strings.Count(string(call.Body), member) == 1; has != slices.Contains(c.said, member) {
				t.Errorf("%s: %s in %s", name, member, call.Body)
			}
		}
		want, got := strings.Fields(c.lost), slices.Clone(call.Dropped)
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q is lost", name, call.Dropped)
		}
	}
}
