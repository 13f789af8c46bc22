package anthropic

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"unicode/utf8"

	"millrace/extproc/llm"

	"github.com/go-json-experiment/json/jsontext"
	"golang.org/x/tools/txtar"
)

// seed adds one file of every golden case that matches the glob.
func seed(f *testing.F, glob, name string) {
	f.Helper()
	paths, err := filepath.Glob(glob)
	if err != nil || len(paths) == 0 {
		f.Fatalf("no seed matches %s (%v)", glob, err)
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range txtar.Parse(data).Files {
			if file.Name == name {
				f.Add(file.Data)
			}
		}
	}
}

// FuzzRequest checks that whatever a client sends is refused with an *llm.Error or becomes a
// request that this schema can say again, or refuses as an *llm.Error.
func FuzzRequest(f *testing.F) {
	seed(f, "testdata/request/*.txtar", "body.json")
	seed(f, "testdata/encode/*.txtar", "body.json")
	f.Add([]byte(`{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"q"},{"role":"assistant","content":[{"type":"tool_use","id":"a!","name":"f"},{"type":"tool_use","id":"a__2","name":"f"},{"type":"tool_use","id":"a?","name":"f"}]},{"role":"user","content":[{"type":"text","text":"1"},{"type":"tool_result","tool_use_id":"a?"}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"a!"},{"type":"text","text":"2"},{"type":"tool_result","tool_use_id":"a__2"}]}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		head, err := Messages{}.ReadHead(nil, body)
		if err != nil {
			wantError(t, err)
			return
		}
		for _, model := range []string{"claude-sonnet-4-5", "claude-opus-5-5"} {
			o := llm.Options{Model: model}
			patched, err := Messages{}.PatchRequest(head, body, o)
			if err != nil {
				t.Fatal(err)
			}
			if again, err := (Messages{}).ReadHead(nil, patched.Body); err != nil || again.Model != model || again.Stream != head.Stream {
				t.Fatalf("patched %s: %+v, %v", patched.Body, again, err)
			}
			r, err := Messages{}.DecodeRequest(head, body)
			if err != nil {
				wantError(t, err)
				continue
			}
			call, err := Messages{}.EncodeRequest(r, o)
			if err != nil {
				wantError(t, err)
				continue
			}
			again, err := Messages{}.ReadHead(nil, call.Body)
			if err != nil {
				t.Fatalf("wrote %s: %v", call.Body, err)
			}
			if _, err := (Messages{}).DecodeRequest(again, call.Body); err != nil {
				t.Fatalf("wrote %s: %v", call.Body, err)
			}
		}
	})
}

func wantError(t *testing.T, err error) {
	t.Helper()
	e, ok := err.(*llm.Error)
	if !ok || e.Type != llm.ErrInvalidRequest || !utf8.ValidString(e.Message) {
		t.Fatalf("got %v, want an invalid request", err)
	}
}

// FuzzResponse checks that any answer is read as an error or written again as strict JSON.
func FuzzResponse(f *testing.F) {
	seed(f, "testdata/response/*.txtar", "body.json")
	seed(f, "testdata/error/*.txtar", "body.txt")
	f.Fuzz(func(t *testing.T, body []byte) {
		if e := (Messages{}).DecodeError(500, nil, body); e == nil || e.Message == "" || !jsontext.Value(Messages{}.EncodeError(e)).IsValid() {
			t.Fatalf("error: %v", e)
		}
		r, err := answerReader{}.Whole(body)
		if err != nil {
			if e, ok := err.(*llm.Error); !ok || e.Message == "" {
				t.Fatalf("got %v, want an *llm.Error", err)
			}
			return
		}
		out, err := Messages{}.EncodeResponse(llm.Asked{}, r)
		if err != nil {
			t.Fatalf("read %s, cannot write it: %v", body, err)
		}
		if !jsontext.Value(out).IsValid(jsontext.AllowDuplicateNames(true)) {
			t.Fatalf("wrote %s", out)
		}
	})
}

// FuzzStream checks that any bytes, however they are cut, give the same frames and the same stream
// for the client, and that the frames are the bytes.
func FuzzStream(f *testing.F) {
	seed(f, "testdata/stream/*.txtar", "in.sse")
	f.Add([]byte(`data: {"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"a","name":"f"}}` + "\n\n" +
		`data: {"type":"content_block_start","index":0,"content_block":{"type":"server_tool_use"}}` + "\n\n" +
		`data: {"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{}"}}` + "\n\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		if bytes.Contains(in, []byte("message_start")) && !bytes.Contains(in, []byte(`"id":"`)) {
			return // an id would be made up
		}
		events, raw, out := relay(t, [][]byte{bytes.Clone(in)})
		if raw != string(in) {
			t.Fatalf("bytes: got %q, want %q", raw, in)
		}
		if !utf8.ValidString(out) {
			t.Fatalf("wrote invalid UTF-8: %q", out)
		}
		var chunks [][]byte
		for rest := bytes.Clone(in); len(rest) > 0; {
			n := min(7, len(rest))
			chunks, rest = append(chunks, rest[:n:n]), rest[n:]
		}
		cutEvents, cutRaw, cutOut := relay(t, chunks)
		if cutEvents != events || cutRaw != raw {
			t.Fatalf("cut:\n%s\n%q\nwhole:\n%s\n%q", cutEvents, cutRaw, events, raw)
		}
		if hideID(cutOut) != hideID(out) {
			t.Fatalf("cut:\n%s\nwhole:\n%s", cutOut, out)
		}
	})
}

// hideID blanks an id that was made up.
func hideID(stream string) string {
	b := []byte(stream)
	if i := bytes.Index(b, []byte(`"message":{"id":"msg_`)); i >= 0 && len(b) > i+47 {
		copy(b[i+21:i+47], bytes.Repeat([]byte("x"), 26))
	}
	return string(b)
}
