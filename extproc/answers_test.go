package extproc

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"github.com/google/go-cmp/cmp"

	"millrace/envoy"
	"millrace/extproc/llm"
	"millrace/extproc/provider"
	"millrace/internal/golden"
	"millrace/schema"
)

// app is a client of a schema.
type app struct {
	schema              schema.Name
	path, whole, stream string
}

var apps = []app{
	{schema.OpenAIChat, "/v1/chat/completions", plainBody, `{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"hi"}]}`},
	{schema.AnthropicMessages, "/v1/messages", `{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}`, `{"model":"m","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"hi"}]}`},
}

// targetSchemas are what the targets of document speak.
var targetSchemas = map[string]schema.Name{"same": schema.OpenAIChat, "other": schema.AnthropicMessages}

// call is one attempt of an app's request at a target, played by a test.
type call struct {
	t      testing.TB
	stream extprocv3.ExternalProcessor_ProcessClient
	header http.Header // of the answer, as Envoy has it so far
	body   string      // of the answer, as far as it has come
	ended  bool
}

const callID = "called"

// call makes a request and has it sent to a target.
func (p *peer) call(t testing.TB, a app, body, target string) *call {
	t.Helper()
	p.routedTo(t, a, body)
	c := &call{t: t, stream: p.open(t, envoy.StreamUpstream), header: http.Header{}}
	if sent := exchangeMessage(t, c.stream, upstreamHeaders(callID, p.targets[target])); sent.GetRequestHeaders() == nil {
		t.Fatalf("the request was refused: %v", sent)
	}
	return c
}

// routedTo makes a request and has its router stream read it.
func (p *peer) routedTo(t testing.TB, a app, body string) {
	t.Helper()
	p.server.exchanges.take(callID)
	message := headersMessage(callID)
	for _, h := range message.GetRequestHeaders().Headers.Headers {
		if h.Key == ":path" {
			h.RawValue = []byte(a.path)
		}
	}
	router := p.open(t, envoy.StreamRouter)
	exchangeMessage(t, router, message)
	exchangeMessage(t, router, &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestBody{
		RequestBody: &extprocv3.HttpBody{Body: []byte(body), EndOfStream: true},
	}})
	router.CloseSend()
}

// head is the target's, "name= value" each.
func (c *call) head(lines ...string) *call {
	for _, line := range lines {
		name, v, _ := strings.Cut(line, "= ")
		c.header.Set(name, v)
	}
	c.stream.Send(&extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_ResponseHeaders{
		ResponseHeaders: &extprocv3.HttpHeaders{Headers: headerMap(lines...)},
	}})
	return c
}

// says has the target say pieces of its answer, and stay connected.
func (c *call) says(pieces ...string) *call { return c.send(false, pieces...) }

// ends has the target say the rest of its answer, and end.
func (c *call) ends(pieces ...string) *call { return c.send(true, pieces...) }

func (c *call) send(end bool, pieces ...string) *call {
	for i, piece := range pieces {
		c.stream.Send(&extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_ResponseBody{
			ResponseBody: &extprocv3.HttpBody{Body: []byte(piece), EndOfStream: end && i == len(pieces)-1},
		}})
	}
	return c
}

// until waits until the client's body holds the text.
func (c *call) until(text string) *call {
	c.t.Helper()
	for !strings.Contains(c.body, text) {
		c.receive()
	}
	return c
}

// all waits for the end of the client's answer.
func (c *call) all() *call {
	c.t.Helper()
	for !c.ended {
		c.receive()
	}
	c.close()
	return c
}

func (c *call) receive() {
	c.t.Helper()
	reply, err := c.stream.Recv()
	if err != nil {
		c.t.Fatalf("after %q: %v", c.body, err)
	}
	if now := reply.GetImmediateResponse(); now != nil {
		c.header, c.body, c.ended = http.Header{}, string(now.Body), true
		c.header.Set(":status", strconv.Itoa(int(now.Status.Code)))
		return
	}
	mutation := reply.GetResponseHeaders().GetResponse().GetHeaderMutation()
	for _, h := range mutation.GetSetHeaders() {
		c.header.Set(h.Header.Key, string(h.Header.RawValue))
	}
	for _, name := range mutation.GetRemoveHeaders() {
		c.header.Del(name)
	}
	piece := reply.GetResponseBody().GetResponse().GetBodyMutation().GetStreamedResponse()
	c.body += string(piece.GetBody())
	c.ended = piece.GetEndOfStream()
}

// close ends the attempt as Envoy does, and waits until it is over.
func (c *call) close() {
	c.stream.CloseSend()
	for {
		if _, err := c.stream.Recv(); err != nil {
			return
		}
	}
}

// understood is what an app's SDK makes of its answer.
func understood(a app, stream bool, body string) (*llm.Response, error) {
	codec, _ := provider.Of(a.schema)
	if !stream {
		return reader(codec).Whole([]byte(body))
	}
	d := reader(codec).Stream()
	frames, err := d.Push([]byte(body))
	if err != nil {
		return nil, err
	}
	var all llm.Assembly
	ended := false
	for _, f := range frames {
		for _, e := range f.Events {
			all.Add(e)
			ended = ended || e.Kind == llm.End
			if e.Kind == llm.Failure {
				return nil, e.Err
			}
		}
	}
	if !ended {
		return nil, fmt.Errorf("the stream has no end: %s", body)
	}
	return all.Response(), nil
}

// reader is that of a call in which nothing has to be undone.
func reader(codec provider.Codec) llm.AnswerReader {
	hi := []llm.Message{{Role: llm.User, Parts: []llm.Part{llm.Text{Text: "hi"}}}}
	call, err := codec.Target.EncodeRequest(&llm.Request{Messages: hi}, llm.Options{Model: "m"})
	if err != nil {
		panic(err)
	}
	return call.Answer
}

// An answer in two forms and two schemas, each with a finish that denies its call: what it says,
// and how the target says it.
var (
	answered = llm.Response{
		ID: "r1", Model: "m", Usage: llm.Usage{Input: 5, Output: 7},
		Choices: []llm.Choice{{Stop: llm.StopTool, Parts: []llm.Part{
			llm.Text{Text: "let me look"}, llm.ToolCall{ID: "call_1", Name: "look", Arguments: `{"at":"it"}`},
		}}},
	}
	wholeAnswers = map[schema.Name]string{
		schema.OpenAIChat:        `{"id":"r1","object":"chat.completion","created":3,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"let me look","tool_calls":[{"id":"call_1","type":"function","function":{"name":"look","arguments":"{\"at\":\"it\"}"}}]},"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12}}`,
		schema.AnthropicMessages: `{"id":"r1","type":"message","role":"assistant","model":"m","content":[{"type":"text","text":"let me look"},{"type":"tool_use","id":"call_1","name":"look","input":{"at":"it"}}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":5,"output_tokens":7}}`,
	}
	streamedAnswers = map[schema.Name][]string{
		schema.OpenAIChat: {
			": waiting\n\n",
			`data: {"id":"r1","object":"chat.completion.chunk","created":3,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}` + "\n\n",
			`data: {"id":"r1","object":"chat.completion.chunk","created":3,"model":"m","choices":[{"index":0,"delta":{"content":"let me look"}}]}` + "\n\n",
			`data: {"id":"r1","object":"chat.completion.chunk","created":3,"model":"m","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"look","arguments":"{\"at\":"}}]}}]}` + "\n\n",
			`data: {"id":"r1","object":"chat.completion.chunk","created":3,"model":"m","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\"it\"}"}}]}}]}` + "\n\n",
			`data: {"id":"r1","object":"chat.completion.chunk","created":3,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\n",
			`data: {"id":"r1","object":"chat.completion.chunk","created":3,"model":"m","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12}}` + "\n\n",
			"data: [DONE]\n\n",
		},
		schema.AnthropicMessages: {
			"event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"r1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"m\",\"content\":[],\"usage\":{\"input_tokens\":5,\"output_tokens\":1}}}\n\n",
			"event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
			"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"let me look\"}}\n\n",
			"event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
			"event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"tool_use\",\"id\":\"call_1\",\"name\":\"look\",\"input\":{}}}\n\n",
			"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"at\\\":\\\"it\\\"}\"}}\n\n",
			"event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":1}\n\n",
			"event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":7}}\n\n",
			"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
		},
	}
)

// pair is an app at a target that answers in one form, whatever form the app wants.
type pair struct {
	app            app
	target         string
	wants, streams bool // a stream; the target's answer is one
}

func pairs() []pair {
	var all []pair
	for _, a := range apps {
		for _, target := range slices.Sorted(maps.Keys(targetSchemas)) {
			for _, wants := range []bool{false, true} {
				for _, streams := range []bool{false, true} {
					all = append(all, pair{a, target, wants, streams})
				}
			}
		}
	}
	return all
}

func (p pair) String() string {
	forms := map[bool]string{false: "whole", true: "stream"}
	return fmt.Sprintf("%s at %s wants %s gets %s", p.app.schema, targetSchemas[p.target], forms[p.wants], forms[p.streams])
}

func (p pair) request() string {
	if p.wants {
		return p.app.stream
	}
	return p.app.whole
}

func (p pair) answer() []string {
	if p.streams {
		return streamedAnswers[targetSchemas[p.target]]
	}
	return []string{wholeAnswers[targetSchemas[p.target]]}
}

// check compares what the app understands with what the target said.
func (p pair) check(t *testing.T, c *call) {
	t.Helper()
	got, err := understood(p.app, p.wants, c.body)
	if err != nil {
		t.Fatalf("%v: %s", err, c.body)
	}
	got.Created = 0
	if diff := cmp.Diff(&answered, got); diff != "" {
		t.Errorf("(-said +understood)\n%s\n%s", diff, c.body)
	}
	for _, denied := range []string{`"finish_reason":"stop"`, `"stop_reason":"end_turn"`} {
		if strings.Contains(c.body, denied) {
			t.Errorf("the answer calls a tool and says %s: %s", denied, c.body)
		}
	}
	want := map[bool]string{false: "application/json", true: "text/event-stream"}[p.wants]
	if media := c.header.Get("content-type"); media != want || c.header.Get("content-encoding") != "" {
		t.Errorf("headers %v, want content-type %s", c.header, want)
	}
	if length := c.header.Get("content-length"); !p.wants && length != strconv.Itoa(len(c.body)) || p.wants && length != "" {
		t.Errorf("content-length %q for %d bytes", length, len(c.body))
	}
}

// TestContentDecides: whatever the headers call an answer, and in whatever form the target gives
// it, the app gets it in the form that it asked for. The content-type may be wrong, missing, or
// two; the body packed, called so or not, or begin with a byte order mark. Its finish says tool
// calls where there are some, between two schemas and within one.
func TestContentDecides(t *testing.T) {
	p := newPeer(t)
	labels := []string{"", "content-type= application/json", "content-type= text/plain; charset=utf-8", "content-type= text/html",
		"content-type= text/event-stream", "content-type= application/json, text/event-stream; charset=utf-8"}
	packings := []struct{ called, is string }{{"", ""}, {"identity", ""}, {"gzip", "gzip"}, {"", "gzip"}, {"gzip", ""}, {"deflate", "deflate"}}
	for _, pair := range pairs() {
		t.Run(pair.String(), func(t *testing.T) {
			for _, label := range labels {
				for _, packing := range packings {
					for _, mark := range []string{"", "\xef\xbb\xbf", "\r\n\n"} {
						head := []string{":status= 200"}
						if label != "" {
							head = append(head, label)
						}
						if packing.called != "" {
							head = append(head, "content-encoding= "+packing.called)
						}
						answer := golden.Packed(t, packing.is, append([]string{mark}, pair.answer()...)...)
						pair.check(t, p.call(t, pair.app, pair.request(), pair.target).head(head...).ends(string(answer)).all())
						if t.Failed() {
							t.Fatalf("%q, %v, begins with %q", label, packing, mark)
						}
					}
				}
			}
		})
	}
}

// TestContentDecidesForEveryCut: how the bytes fall into chunks changes none of it.
func TestContentDecidesForEveryCut(t *testing.T) {
	p := newPeer(t)
	for _, pair := range pairs() {
		t.Run(pair.String(), func(t *testing.T) {
			for _, packing := range []string{"", "gzip"} {
				answer := string(golden.Packed(t, packing, append([]string{"\xef\xbb\xbf"}, pair.answer()...)...))
				play := func(chunks ...string) string {
					c := p.call(t, pair.app, pair.request(), pair.target).head(":status= 200", "content-type= text/plain").ends(chunks...).all()
					pair.check(t, c)
					return withoutTimes(c.body)
				}
				want := play(answer)
				for i := 1; i < len(answer); i += 1 + i/10 { // the beginning is what decides
					if got := play(answer[:i], answer[i:]); got != want {
						t.Fatalf("%q, cut at %d of %d:\n%s\nwant\n%s", packing, i, len(answer), got, want)
					}
				}
				if got := play(strings.Split(answer, "")...); got != want {
					t.Fatalf("%q, byte by byte:\n%s\nwant\n%s", packing, got, want)
				}
			}
		})
	}
}

// TestContentAfterTheHead: with commit: headers the client may have the head of a stream before the
// bytes say that it is none. It gets a stream all the same, and an error in its words.
func TestContentAfterTheHead(t *testing.T) {
	p := newPeerOf(t, "gateway: {streaming: {commit: headers}}\n"+document)
	for _, pair := range pairs() {
		if !pair.wants {
			continue
		}
		for _, label := range []string{"text/event-stream", "application/json"} {
			c := p.call(t, pair.app, pair.request(), pair.target).head(":status= 200", "content-type= "+label)
			if label == "text/event-stream" {
				c.receive() // the head
			}
			pair.check(t, c.ends(pair.answer()...).all())
		}
		for _, answer := range []string{`{"error":{"message":"` + words + `"}}`, "<html>", ""} {
			c := p.call(t, pair.app, pair.request(), pair.target).head(":status= 200", "content-type= text/event-stream").ends(answer).all()
			_, err := understood(pair.app, true, c.body)
			if err == nil || strings.Contains(answer, words) && !strings.Contains(err.Error(), words) || strings.Contains(c.body, "<html>") {
				t.Errorf("%s, %q: %v, %s", pair, answer, err, c.body)
			}
		}
	}
}

// TestAnswersAreBounded: what is collected of an answer, and what it unpacks to, has a limit.
func TestAnswersAreBounded(t *testing.T) {
	p := newPeerOf(t, "gateway: {max_request_bytes: 64KB}\n"+document)
	long := strings.Repeat("x", 10_000)
	whole := map[schema.Name]string{}
	for schema, body := range wholeAnswers {
		whole[schema] = strings.Replace(body, "let me look", strings.Repeat(long, 7), 1)
	}
	for _, pair := range pairs() {
		schema := targetSchemas[pair.target]
		var said []string
		switch {
		case pair.streams && pair.wants:
			continue // nothing is collected
		case pair.streams:
			text := strings.Replace(streamedAnswers[schema][2], "let me look", long, 1)
			said = append(said, streamedAnswers[schema][:2]...)
			for range 7 {
				said = append(said, text)
			}
		default:
			said = []string{whole[schema]}
		}
		for _, encoding := range []string{"", "gzip"} {
			c := p.call(t, pair.app, pair.request(), pair.target).head(":status= 200", "content-type= text/plain")
			c.ends(string(golden.Packed(t, encoding, said...))).all()
			if problem := errorProblem(pair.app, c, 502, false); problem != "" || !strings.Contains(c.body, "larger than 65536 bytes") {
				t.Errorf("%s, %q: %s %.300s", pair, encoding, problem, c.body)
			}
		}
	}
}
