package provider

import (
	"bytes"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"millrace/extproc/llm"
	"millrace/internal/golden"
	"millrace/internal/strictjson"
	"millrace/schema"
)

// pairTargets are those that every client's request is written for. The clients ask for the model
// "m", so each model is the gateway's choice.
var pairTargets = []struct {
	name, model, dialect string
	schema               schema.Name
}{
	{"openai", "gpt-4.1", "openai", schema.OpenAIChat},
	{"openai, reasoning", "gpt-5.1", "openai", schema.OpenAIChat},
	{"compatible", "llama-3.3-70b", "", schema.OpenAIChat},
	{"mistral", "mistral-large-latest", "mistral", schema.OpenAIChat},
	{"deepseek", "deepseek-chat", "deepseek", schema.OpenAIChat},
	{"azure", "gpt-4.1", "azure", schema.OpenAIChat},
	{"groq", "llama-3.3-70b-versatile", "groq", schema.OpenAIChat},
	{"ollama", "llama3.2", "ollama", schema.OpenAIChat},
	{"vllm", "llama-3.3-70b", "vllm", schema.OpenAIChat},
	{"lmstudio", "llama-3.3-70b", "lmstudio", schema.OpenAIChat},
	{"together", "llama-3.3-70b", "together", schema.OpenAIChat},
	{"anthropic", "claude-sonnet-4-5", "", schema.AnthropicMessages},
}

// TestPairs: what each target is sent for a client's body, and what it is not, and what of its
// answers is put into the client's terms. A file is a case, its folder the client's schema.
func TestPairs(t *testing.T) {
	for client := range conversations() {
		t.Run(string(client.Schema.Name), func(t *testing.T) {
			golden.Run(t, "testdata/"+string(client.Schema.Name)+"/*.txtar", func(c *golden.Case) {
				body := c.Input("body.json")
				head, err := client.Client.ReadHead(nil, body)
				if err != nil {
					c.T.Fatal(err)
				}
				request, unreadable := client.Client.DecodeRequest(head, body)
				shown := map[string]string{} // what is sent, but for the model, and the target that it was shown for
				for _, to := range pairTargets {
					target, _ := Of(to.schema)
					options := llm.Options{Model: to.model, Dialect: to.dialect, Headers: http.Header{}}
					var call llm.Call
					err := unreadable
					switch {
					case target.Schema == client.Schema:
						call, err = target.Target.PatchRequest(head, body, options)
					case err == nil:
						call, err = target.Target.EncodeRequest(request, options)
					}
					text := callText(c.T, call, err)
					alike := strings.Replace(string(text), `model "`+to.model+`"`, "", 1)
					if first, ok := shown[alike]; ok {
						text = []byte("as " + first)
					} else {
						shown[alike] = to.name
					}
					c.Output("want "+to.name, text)
					for _, form := range []string{"whole", "stream"} {
						if says := c.Input(to.name + " says, " + form); says != nil {
							got := answered(c.T, client.Client, llm.Asked{Head: head}, call.Answer, form, says)
							c.Output("want for "+form+" of "+to.name, created.ReplaceAll(got, []byte(`"created":0`)))
						}
					}
				}
			})
		})
	}
}

// conversations are the codecs of the operation that all schemas have.
func conversations() iter.Seq[Codec] {
	return func(yield func(Codec) bool) {
		for _, s := range schema.All() {
			if c, ok := Of(s.Name); ok && !yield(c) {
				return
			}
		}
	}
}

// created is a time of ours where the target names none.
var created = regexp.MustCompile(`"created":\d+`)

// answered is what the client gets for an answer of the target's, as extproc/answer has it of a
// target of another schema.
func answered(t *testing.T, client llm.ClientCodec, asked llm.Asked, reader llm.AnswerReader, form string, says []byte) []byte {
	t.Helper()
	if form == "whole" {
		r, err := reader.Whole(says)
		if err != nil {
			t.Fatal(err)
		}
		body, err := client.EncodeResponse(asked, r)
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
	stream, to := reader.Stream(), client.NewStreamEncoder(asked)
	frames, err := stream.Push(append(says, "\n\n"...))
	if err != nil {
		t.Fatal(err)
	}
	var out []byte
	for _, f := range frames {
		for _, e := range f.Events {
			out = to.Encode(out, e)
		}
	}
	return to.Close(out, nil)
}

// callText is a call as a reviewer reads it.
func callText(t *testing.T, call llm.Call, err error) []byte {
	t.Helper()
	if err != nil {
		e := llm.AsError(err)
		return fmt.Appendf(nil, "%s: %s (%s)", e.Type, e.Message, e.Param)
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "POST …%s\n", call.Path)
	for _, name := range slices.Sorted(maps.Keys(call.Headers)) {
		fmt.Fprintf(&out, "%s: %s\n", name, strings.Join(call.Headers[name], ", "))
	}
	if len(call.Dropped) > 0 {
		fmt.Fprintf(&out, "dropped: %s\n", strings.Join(call.Dropped, ", "))
	}
	for _, name := range slices.Sorted(maps.Keys(llm.RenamesOf(call.Answer))) {
		fmt.Fprintf(&out, "renamed: %s is %s\n", llm.RenamesOf(call.Answer)[name], name)
	}
	out.Write(bodyText(t, call.Body))
	return out.Bytes()
}

// bodyText has a line for each member of a body, and for each item of a member that is a list.
func bodyText(t *testing.T, body []byte) []byte {
	t.Helper()
	members, err := strictjson.Scan(body)
	if err != nil {
		t.Errorf("%v in %s", err, body)
	}
	var out bytes.Buffer
	for _, m := range members {
		value := jsontext.Value(bytes.Clone(body[m.Value:m.End]))
		if err := value.Compact(jsontext.PreserveRawStrings(true)); err != nil {
			t.Errorf("%v in %s", err, value)
		}
		items, err := strictjson.Items(value)
		if err != nil {
			fmt.Fprintf(&out, "%s %s\n", m.Name, value)
		}
		for i, item := range items {
			fmt.Fprintf(&out, "%s[%d] %s\n", m.Name, i, item)
		}
	}
	return out.Bytes()
}
