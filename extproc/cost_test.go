package extproc

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc/metadata"

	"millrace/envoy"
)

// script is a stream whose messages are all there from the start. It has no gRPC: what a request
// costs on it is ours.
type script struct {
	extprocv3.ExternalProcessor_ProcessServer
	ctx      context.Context
	messages []*extprocv3.ProcessingRequest
	sent     int    // messages
	said     []byte // of the body
}

func newScript(kind string, messages []*extprocv3.ProcessingRequest) *script {
	ctx := metadata.NewIncomingContext(context.Background(), metadata.Pairs(envoy.StreamKind, kind))
	return &script{ctx: ctx, messages: messages}
}

func (s *script) Context() context.Context { return s.ctx }

func (s *script) Recv() (*extprocv3.ProcessingRequest, error) {
	if len(s.messages) == 0 {
		return nil, io.EOF
	}
	m := s.messages[0]
	s.messages = s.messages[1:]
	return m, nil
}

func (s *script) Send(m *extprocv3.ProcessingResponse) error {
	s.sent++
	s.said = append(s.said, m.GetResponseBody().GetResponse().GetBodyMutation().GetStreamedResponse().GetBody()...)
	return nil
}

// costCase is a request by one plan.
type costCase struct {
	name   string
	target string
	body   string
	answer []*extprocv3.ProcessingRequest
	joined bool // the upstream stream reads the request, too

	sent   int // messages of the sidecar's, exactly
	allocs int // of our own code, at most
}

var costCases = []costCase{
	{"same schema, whole", "same", wholeBody, answerOf("application/json", openAIWhole), false, 5, 256},
	{"same schema, stream of 100", "same", streamBody, answerOf("text/event-stream", openAIHundred()...), false, 107, 389},
	{"translated, whole", "other", wholeBody, answerOf("application/json", anthropicWhole), false, 5, 277},
	{"translated, stream of 100", "other", streamBody, answerOf("text/event-stream", anthropicHundred()...), false, 106, 397},
	{"same schema, whole, joined", "same", wholeBody, answerOf("application/json", openAIWhole), true, 4, 206},
	{"translated, stream of 100, joined", "other", streamBody, answerOf("text/event-stream", anthropicHundred()...), true, 105, 349},
}

const (
	wholeBody      = `{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}]}`
	openAIWhole    = `{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}`
	anthropicWhole = `{"id":"m","type":"message","role":"assistant","model":"x","content":[{"type":"text","text":"hello"}],"stop_reason":"end_turn","usage":{"input_tokens":1,"output_tokens":1}}`
)

// openAIHundred is openAIChunks with its token a hundred times.
func openAIHundred() []string { return repeated(openAIChunks, 1) }

func anthropicHundred() []string { return repeated(anthropicChunks, 2) }

func repeated(chunks []string, token int) []string {
	return slices.Concat(chunks[:token], slices.Repeat(chunks[token:token+1], 100), chunks[token+1:])
}

// answerOf is an answer as Envoy tells it: the head, the pieces, the end in a message of its own.
func answerOf(contentType string, pieces ...string) []*extprocv3.ProcessingRequest {
	said := []*extprocv3.ProcessingRequest{{Request: &extprocv3.ProcessingRequest_ResponseHeaders{
		ResponseHeaders: &extprocv3.HttpHeaders{Headers: headerMap(":status= 200", "content-type= "+contentType)},
	}}}
	for i, p := range append(pieces, "") {
		said = append(said, &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_ResponseBody{
			ResponseBody: &extprocv3.HttpBody{Body: []byte(p), EndOfStream: i == len(pieces)},
		}})
	}
	return said
}

// play returns what runs the request through the server, and returns how many messages the sidecar
// sent on both streams, and what it said of the answer's body.
func (c costCase) play(t testing.TB, s *Server, identity string) func() (sent int, said string) {
	request := []*extprocv3.ProcessingRequest{headersMessage("id"), {
		Request: &extprocv3.ProcessingRequest_RequestBody{RequestBody: &extprocv3.HttpBody{Body: []byte(c.body), EndOfStream: true}},
	}}
	attempt := []*extprocv3.ProcessingRequest{upstreamHeaders("id", identity)}
	if c.joined {
		h := attempt[0].GetRequestHeaders().Headers
		h.Headers = append(h.Headers, headerMap(envoy.HeaderRead+"= 1").Headers...)
		attempt, request = append(attempt, request[1]), nil
	}
	attempt = append(attempt, c.answer...)
	return func() (int, string) {
		router, upstream := newScript(envoy.StreamRouter, request), newScript(envoy.StreamUpstream, attempt)
		for _, stream := range []*script{router, upstream} {
			if err := s.Process(stream); err != nil {
				t.Fatal(err)
			}
		}
		s.exchanges.take("id")
		s.exchanges.bodies.release("id")
		return router.sent + upstream.sent, string(upstream.said)
	}
}

func costServer(t testing.TB) *peer {
	p := &peer{server: NewServer(Options{
		Log:       slog.New(slog.DiscardHandler),
		Succeeded: func(string, string) {},
		Failed:    func(string, string, string) {},
	})}
	p.use(t, document)
	return p
}

// TestRequestCost: a request costs no more messages and allocations than it did. Fewer are welcome:
// note them in costCases.
func TestRequestCost(t *testing.T) {
	p := costServer(t)
	for _, c := range costCases {
		t.Run(c.name, func(t *testing.T) {
			play := c.play(t, p.server, p.targets[c.target])
			sent, said := play()
			if !strings.Contains(said, `"hello"`) {
				t.Fatalf("not the answer: %q", said)
			}
			if sent != c.sent {
				t.Errorf("%d messages were sent, not %d", sent, c.sent)
			}
			allocs := int(testing.AllocsPerRun(50, func() { play() }))
			if allocs > c.allocs+c.allocs*costSlack/100 {
				t.Errorf("%d allocations, where %d were enough", allocs, c.allocs)
			}
		})
	}
}

// BenchmarkRequestCost is our own share of a request: no gRPC.
func BenchmarkRequestCost(b *testing.B) {
	for _, c := range costCases {
		b.Run(c.name, func(b *testing.B) {
			p := costServer(b)
			play := c.play(b, p.server, p.targets[c.target])
			b.ReportAllocs()
			for b.Loop() {
				play()
			}
		})
	}
}
