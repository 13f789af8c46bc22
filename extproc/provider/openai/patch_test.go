package openai

import (
	"bytes"
	"strconv"
	"testing"

	"millrace/extproc/llm"
	"millrace/internal/golden"
)

// TestPatch shows the bytes as they are: what is not said to change must not.
func TestPatch(t *testing.T) {
	golden.Run(t, "testdata/patch/*.txtar", func(c *golden.Case) {
		body := c.Input("body.json")
		h, err := Chat{}.ReadHead(nil, body)
		if err != nil {
			c.T.Fatal(err)
		}
		model := h.Model
		if m := c.Input("model"); m != nil {
			model = string(m)
		}
		before := bytes.Clone(body)
		call, err := Chat{}.PatchRequest(h, body, llm.Options{Model: model, Dialect: string(c.Input("dialect")), MaxTokens: inputNumber(c, "max-tokens"), MaxOutput: inputNumber(c, "max-output")})
		if err != nil {
			failed(c, err)
			return
		}
		if !bytes.Equal(before, body) {
			c.T.Error("PatchRequest changed the client's body")
		}
		if bytes.Equal(call.Body, body) {
			c.Output("want-same-bytes", nil)
		} else {
			c.Output("want-body.json", call.Body)
		}
		outputCall(c, call)
	})
}

// inputNumber is an input that is a number; 0 when there is none.
func inputNumber(c *golden.Case, name string) int64 {
	text := c.Input(name)
	if text == nil {
		return 0
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil {
		c.T.Fatal(err)
	}
	return n
}
