package anthropic

import (
	"bufio"
	"bytes"
	"maps"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"testing"

	"millrace/extproc/llm"
	"millrace/internal/golden"

	"github.com/go-json-experiment/json"
)

// decode reads the case's body.json the way a client's request is read.
func decode(c *golden.Case) (llm.Head, *llm.Request, error) {
	body := c.Input("body.json")
	head, err := Messages{}.ReadHead(nil, body)
	if err != nil {
		return head, nil, err
	}
	r, err := Messages{}.DecodeRequest(head, body)
	return head, r, err
}

// options reads the case's options.json: model, version and max_tokens of the target.
func options(c *golden.Case) llm.Options {
	in := struct {
		Model     string `json:"model"`
		Version   string `json:"version"`
		MaxTokens int64  `json:"max_tokens"`
		MaxOutput int64  `json:"max_output"`
	}{Model: "claude-sonnet-4-5"}
	if raw := c.Input("options.json"); raw != nil {
		if err := json.Unmarshal(raw, &in); err != nil {
			c.T.Fatal(err)
		}
	}
	o := llm.Options{Model: in.Model, MaxTokens: in.MaxTokens, MaxOutput: in.MaxOutput}
	if in.Version != "" {
		o.Headers = http.Header{"Anthropic-Version": {in.Version}}
	}
	return o
}

// showCall states what is in a call beside its body.
func showCall(call llm.Call) []byte {
	out := "POST " + call.Path + "\n"
	if v := call.Headers.Get("Anthropic-Version"); v != "" {
		out += "anthropic-version: " + v + "\n"
	}
	for _, name := range call.Dropped {
		out += "dropped: " + name + "\n"
	}
	for _, name := range slices.Sorted(maps.Keys(llm.RenamesOf(call.Answer))) {
		out += "renamed: " + llm.RenamesOf(call.Answer)[name] + " is " + name + "\n"
	}
	return []byte(out)
}

func TestDecodeRequest(t *testing.T) {
	golden.Run(t, "testdata/request/*.txtar", func(c *golden.Case) {
		_, r, err := decode(c)
		if err != nil {
			c.Output("want-error.txt", []byte(showError(err)))
			return
		}
		r.Words = nil // they are the same in every case
		c.Output("want.json", dump(c.T, r))
	})
}

func TestEncodeRequest(t *testing.T) {
	golden.Run(t, "testdata/encode/*.txtar", func(c *golden.Case) {
		_, r, err := decode(c)
		if err != nil {
			c.T.Fatal(err)
		}
		before := dump(c.T, r)
		call, err := Messages{}.EncodeRequest(r, options(c))
		if after := dump(c.T, r); !bytes.Equal(before, after) {
			c.T.Errorf("EncodeRequest changed its request:\n%s\n%s", before, after)
		}
		if err != nil {
			c.Output("want-error.txt", []byte(showError(err)))
			return
		}
		c.Output("want-call.txt", showCall(call))
		c.Output("want.json", indent(c.T, call.Body))
	})
}

func TestPatchRequest(t *testing.T) {
	golden.Run(t, "testdata/patch/*.txtar", func(c *golden.Case) {
		body := c.Input("body.json")
		before := string(body)
		head, err := Messages{}.ReadHead(nil, body)
		if err != nil {
			c.T.Fatal(err)
		}
		call, err := Messages{}.PatchRequest(head, body, options(c))
		if err != nil {
			c.T.Fatal(err)
		}
		if string(body) != before {
			c.T.Errorf("PatchRequest changed the client's body to %s", body)
		}
		c.Output("want-call.txt", showCall(call))
		c.Output("want.json", call.Body)
	})
}

// TestResponse reads each answer and writes it again for a client of this schema.
func TestResponse(t *testing.T) {
	golden.Run(t, "testdata/response/*.txtar", func(c *golden.Case) {
		r, err := answerReader{}.Whole(c.Input("body.json"))
		if err != nil {
			c.Output("want-error.txt", []byte(showError(err)))
			return
		}
		c.Output("want-neutral.json", dump(c.T, r))
		body, err := Messages{}.EncodeResponse(llm.Asked{}, r)
		if err != nil {
			c.Output("want-error.txt", []byte(showError(err)))
			return
		}
		c.Output("want.json", indent(c.T, body))
	})
}

// TestError reads each provider's error and writes it for a client of this schema. head.txt is the
// status and the headers.
func TestError(t *testing.T) {
	golden.Run(t, "testdata/error/*.txtar", func(c *golden.Case) {
		first, rest, _ := strings.Cut(string(c.Input("head.txt")), "\n")
		status, err := strconv.Atoi(first)
		if err != nil {
			c.T.Fatal(err)
		}
		headers, err := textproto.NewReader(bufio.NewReader(strings.NewReader(rest + "\n\n"))).ReadMIMEHeader()
		if err != nil {
			c.T.Fatal(err)
		}
		e := Messages{}.DecodeError(status, http.Header(headers), c.Input("body.txt"))
		c.Output("want-neutral.txt", []byte(showError(e)))
		c.Output("want.json", indent(c.T, Messages{}.EncodeError(e)))
	})
}

// relay runs a stream through the decoder and the encoder, as the upstream stream does: a terminal
// event closes the encoder, and so does an end of bytes without one.
func relay(t *testing.T, chunks [][]byte) (events, raw, out string) {
	t.Helper()
	decoder, encoder := answerReader{}.Stream(), Messages{}.NewStreamEncoder(llm.Asked{})
	var all, passed strings.Builder
	var dst []byte
	closed := false
	read := func(frames []llm.Frame) {
		for _, f := range frames {
			passed.Write(f.Raw)
			for _, e := range f.Events {
				all.WriteString(line(e) + "\n")
				dst = encoder.Encode(dst, e)
				if e.Kind == llm.End || e.Kind == llm.Failure {
					if closed {
						t.Fatal("two terminal events")
					}
					closed = true
					dst = encoder.Close(dst, e.Err)
				}
			}
		}
	}
	for _, chunk := range chunks {
		frames, err := decoder.Push(chunk)
		if err != nil {
			t.Fatal(err)
		}
		clear(chunk) // nothing may hold on to the chunk
		read(frames)
	}
	read(decoder.Close())
	if !closed {
		dst = encoder.Close(dst, llm.Errorf(llm.ErrBadGateway, "the provider's stream broke off"))
	}
	return all.String(), passed.String(), string(dst)
}

// TestStream reads each provider's stream and writes it again for a client of this schema, whatever
// the cuts.
func TestStream(t *testing.T) {
	golden.Run(t, "testdata/stream/*.txtar", func(c *golden.Case) {
		in := c.Input("in.sse")
		if c.Input("unterminated") == nil {
			in = append(in, "\n\n"...)
		}
		if c.Input("crlf") != nil {
			in = bytes.ReplaceAll(in, []byte("\n"), []byte("\r\n"))
		}
		golden.EveryCut(c.T, in, func(chunks [][]byte) string {
			events, raw, out := relay(c.T, chunks)
			if raw != string(in) {
				c.T.Fatalf("raw bytes: got %q, want %q", raw, in)
			}
			return events + "\x00" + out
		})
		events, _, out := relay(c.T, [][]byte{bytes.Clone(in)})
		c.Output("want-events.txt", []byte(events))
		c.Output("want.sse", []byte(out))
	})
}
