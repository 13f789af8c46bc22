package webhook

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

// contract is a schema of docs/webhook.openapi.yaml.
func contract(t *testing.T, name string) *jsonschema.Schema {
	t.Helper()
	const url = "file:///webhook.openapi.json"
	c := jsonschema.NewCompiler()
	if err := c.AddResource(url, document(t)); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile(url + "#/components/schemas/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func document(t *testing.T) map[string]any {
	t.Helper()
	text, err := os.ReadFile("../../../docs/webhook.openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var from map[string]any
	if err := yaml.Unmarshal(text, &from); err != nil {
		t.Fatal(err)
	}
	written, err := json.Marshal(from)
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(written))
	if err != nil {
		t.Fatal(err)
	}
	return value.(map[string]any)
}

func value(t *testing.T, text string) any {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestContract: what is sent, and what is taken for an answer, is what the document says; what it
// does not allow is not taken.
func TestContract(t *testing.T) {
	schema := contract(t, "Question")
	for _, q := range []*Question{
		{ID: "1", Phase: "input", Gateway: "main", Schema: "openai.chat", Texts: []Text{{"user", "said", "hello"}}},
		{ID: "1", Phase: "output", Gateway: "main", Service: "s", Key: "k", Model: "m", Schema: "x", Stream: true, Texts: []Text{{"", "", "\xff<&>"}, {}}},
	} {
		written, err := writeQuestion(q)
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(value(t, string(written))); err != nil {
			t.Errorf("%s: %v", written, err)
		}
	}
	schema = contract(t, "Verdict")
	q := &Question{Texts: make([]Text, 3)}
	for _, c := range verdicts {
		if c.beyond {
			continue
		}
		_, err := readVerdict([]byte(c.answer), q)
		if fits := schema.Validate(value(t, c.answer)) == nil; fits != (err == nil) {
			t.Errorf("%s: the document allows it: %v; and it is read: %v", c.answer, fits, err)
		}
	}
}

// TestExamples: the examples of the document are what it describes.
func TestExamples(t *testing.T) {
	post := document(t)["webhooks"].(map[string]any)["guardrail"].(map[string]any)["post"].(map[string]any)
	examples := func(of map[string]any) map[string]any {
		return of["content"].(map[string]any)["application/json"].(map[string]any)["examples"].(map[string]any)
	}
	questions, answers := examples(post["requestBody"].(map[string]any)), examples(post["responses"].(map[string]any)["200"].(map[string]any))
	if len(questions) == 0 || len(answers) == 0 {
		t.Fatal("it has none")
	}
	for name, example := range questions {
		if err := contract(t, "Question").Validate(example.(map[string]any)["value"]); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, example := range answers {
		if err := contract(t, "Verdict").Validate(example.(map[string]any)["value"]); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
