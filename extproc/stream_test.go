package extproc

import (
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/structpb"

	"millrace/config"
	"millrace/envoy"
)

// peer plays Envoy against a server, over a real gRPC connection in memory.
type peer struct {
	client  extprocv3.ExternalProcessorClient
	server  *Server
	targets map[string]string // id to identity, in the configuration used last
}

const document = `
upstreams:
- name: chat
  targets:
  - {id: same, provider: openai, credentials: {header_name: Authorization, header_value: Bearer secret-of-same}, headers: {x-team: blue}}
  - {id: other, provider: anthropic, default_model: claude-x, credentials: {header_name: X-Api-Key, header_value: secret-of-other}}
services: [{name: chat, upstream: chat}]
rules: [{path: /v1, service: chat}]
`

// use makes a document the server's configuration, and returns the identities of its targets, by
// id.
func (p *peer) use(t testing.TB, document string) map[string]string {
	t.Helper()
	doc, err := config.Load("test.yaml", []byte(document))
	if err != nil {
		t.Fatal(err)
	}
	c, err := config.Resolve(doc)
	if err != nil {
		t.Fatal(err)
	}
	runtime, err := Compile(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	p.server.Use(runtime)
	p.targets = map[string]string{}
	for identity, target := range runtime.targets {
		p.targets[target.config.ID] = identity
	}
	return p.targets
}

func newPeer(t testing.TB) *peer {
	t.Helper()
	return newPeerOf(t, document)
}

func newPeerOf(t testing.TB, document string) *peer {
	t.Helper()
	p := &peer{server: NewServer(Options{Log: slog.New(slog.DiscardHandler), Ready: func() Readiness { return Readiness{} }})}
	p.use(t, document)
	g := grpc.NewServer()
	p.server.Register(g)
	l := bufconn.Listen(1 << 20)
	go g.Serve(l)
	t.Cleanup(g.Stop)
	conn, err := grpc.NewClient("passthrough:///mem", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return l.Dial() }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	p.client = extprocv3.NewExternalProcessorClient(conn)
	return p
}

func (p *peer) open(t testing.TB, kind string) extprocv3.ExternalProcessor_ProcessClient {
	t.Helper()
	stream, err := p.client.Process(metadata.AppendToOutgoingContext(context.Background(), envoy.StreamKind, kind))
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

func headerMap(lines ...string) *corev3.HeaderMap {
	m := &corev3.HeaderMap{}
	for _, line := range lines {
		name, v, _ := strings.Cut(line, "= ")
		m.Headers = append(m.Headers, &corev3.HeaderValue{Key: name, RawValue: []byte(v)})
	}
	return m
}

func attributes(pairs map[string]any) map[string]*structpb.Struct {
	s, err := structpb.NewStruct(pairs)
	if err != nil {
		panic(err)
	}
	return map[string]*structpb.Struct{"envoy.filters.http.ext_proc": s}
}

// exchange sends one message and returns the reply to it.
func exchangeMessage(t testing.TB, s extprocv3.ExternalProcessor_ProcessClient, m *extprocv3.ProcessingRequest) *extprocv3.ProcessingResponse {
	t.Helper()
	if err := s.Send(m); err != nil {
		t.Fatal(err)
	}
	reply, err := s.Recv()
	if err != nil {
		t.Fatal(err)
	}
	return reply
}

const routeName = `"default" [] "/v1" map[] map[] []`

func headersMessage(id string) *extprocv3.ProcessingRequest {
	return &extprocv3.ProcessingRequest{
		Request: &extprocv3.ProcessingRequest_RequestHeaders{RequestHeaders: &extprocv3.HttpHeaders{Headers: headerMap(
			":method= POST", ":path= /v1/chat/completions", ":authority= localhost", "content-type= application/json", "user-agent= test",
			"authorization= Bearer client-key", "cookie= a=b", "x-forwarded-proto= http", envoy.HeaderRequestID+"= "+id)}},
		Attributes: attributes(map[string]any{envoy.AttributeRoute: routeName}),
	}
}

func upstreamHeaders(id, identity string) *extprocv3.ProcessingRequest {
	m := headersMessage(id)
	m.Attributes = nil
	return attempted(m, identity, routeName)
}

// attempted makes the message one of an upstream stream: Envoy has chosen the target, on this
// route.
func attempted(m *extprocv3.ProcessingRequest, identity, route string) *extprocv3.ProcessingRequest {
	h := m.GetRequestHeaders().Headers
	h.Headers = append(h.Headers, headerMap(envoy.HeaderRoute+"= "+route, envoy.HeaderAttempt+"= 1").Headers...)
	m.MetadataContext = &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{
		envoy.Metadata: {Fields: map[string]*structpb.Value{envoy.MetadataTarget: structpb.NewStringValue(identity)}},
	}}
	return m
}

// run plays one whole request: router stream, upstream stream, an answer in chunks. It returns the
// request as the target gets it and the answer as the client gets it.
func (p *peer) run(t testing.TB, id, target, body string, chunks ...string) (sent *extprocv3.CommonResponse, answer string) {
	t.Helper()
	router := p.open(t, envoy.StreamRouter)
	exchangeMessage(t, router, headersMessage(id))
	exchangeMessage(t, router, &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestBody{
		RequestBody: &extprocv3.HttpBody{Body: []byte(body), EndOfStream: true},
	}})
	router.CloseSend()

	upstream := p.open(t, envoy.StreamUpstream)
	sent = exchangeMessage(t, upstream, upstreamHeaders(id, p.targets[target])).GetRequestHeaders().GetResponse()
	if sent == nil {
		t.Fatal("the upstream stream refused the request")
	}
	upstream.Send(&extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_ResponseHeaders{
		ResponseHeaders: &extprocv3.HttpHeaders{Headers: headerMap(":status= 200", "content-type= text/event-stream", "set-cookie= x=y")},
	}})
	for i, c := range chunks {
		upstream.Send(&extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_ResponseBody{
			ResponseBody: &extprocv3.HttpBody{Body: []byte(c), EndOfStream: i == len(chunks)-1},
		}})
	}
	var b strings.Builder
	for {
		reply, err := upstream.Recv()
		if err != nil {
			t.Fatalf("after %q: %v", b.String(), err)
		}
		piece := reply.GetResponseBody().GetResponse().GetBodyMutation().GetStreamedResponse()
		b.Write(piece.GetBody())
		if piece.GetEndOfStream() {
			break
		}
	}
	upstream.CloseSend()
	if _, err := upstream.Recv(); err != io.EOF {
		t.Fatalf("end of the upstream stream: %v", err)
	}
	p.server.exchanges.take(id)
	return sent, b.String()
}

var openAIChunks = []string{
	`data: {"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}` + "\n\n",
	`data: {"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"content":"hello"}}]}` + "\n\n",
	`data: {"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\n",
	`data: {"id":"c","object":"chat.completion.chunk","model":"m","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}` + "\n\n" + "data: [DONE]\n\n",
}

var anthropicChunks = []string{
	"event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"x\",\"content\":[],\"usage\":{\"input_tokens\":1,\"output_tokens\":1}}}\n\n",
	"event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
	"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"hello\"}}\n\n",
	"event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":2}}\n\n" +
		"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
}

const streamBody = `{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"hi"}]}`

// TestStreams: what a target gets holds its own credential and nothing of the client's; what the
// client gets is its schema.
func TestStreams(t *testing.T) {
	p := newPeer(t)
	for _, c := range []struct {
		target string
		chunks []string
		auth   string
	}{
		{"same", openAIChunks, "authorization: Bearer secret-of-same"},
		{"other", anthropicChunks, "x-api-key: secret-of-other"},
	} {
		sent, answer := p.run(t, "id-"+c.target, c.target, streamBody, c.chunks...)
		var set []string
		for _, h := range sent.HeaderMutation.SetHeaders {
			set = append(set, h.Header.Key+": "+string(h.Header.RawValue))
		}
		all := strings.Join(set, "\n")
		if !strings.Contains(all, c.auth) || strings.Contains(all, "client-key") {
			t.Errorf("%s: set %s", c.target, all)
		}
		removed := strings.Join(sent.HeaderMutation.RemoveHeaders, " ")
		if !strings.Contains(removed, "cookie") || !strings.Contains(removed, envoy.HeaderRoute) {
			t.Errorf("%s: removed %s", c.target, removed)
		}
		if !strings.Contains(answer, `"hello"`) || !strings.HasSuffix(answer, "data: [DONE]\n\n") || strings.Contains(answer, `"usage":{`) {
			t.Errorf("%s: answer %s", c.target, answer)
		}
	}
}

// TestAnswerIsTheSameForEveryCut: what the client gets does not depend on how the provider's bytes
// fell into chunks.
func TestAnswerIsTheSameForEveryCut(t *testing.T) {
	p := newPeer(t)
	for target, chunks := range map[string][]string{"same": openAIChunks, "other": anthropicChunks} {
		whole := strings.Join(chunks, "")
		_, want := p.run(t, "whole", target, streamBody, whole)
		want = withoutTimes(want)
		for i := 1; i < len(whole); i += 7 {
			if _, got := p.run(t, "cut", target, streamBody, whole[:i], whole[i:]); withoutTimes(got) != want {
				t.Fatalf("%s cut at %d:\n%s\nwant\n%s", target, i, got, want)
			}
		}
	}
}

// withoutTimes drops the second at which a translated chunk was made.
func withoutTimes(s string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(s, `"created":`) {
		b.WriteString(strings.TrimLeft(part, "0123456789"))
	}
	return b.String()
}

// TestNoExchange: an upstream stream whose exchange is unknown fails the request; Envoy says 503.
func TestNoExchange(t *testing.T) {
	p := newPeer(t)
	s := p.open(t, envoy.StreamUpstream)
	s.Send(upstreamHeaders("nobody", p.targets["same"]))
	if reply, err := s.Recv(); err == nil {
		t.Fatalf("got %v", reply)
	}
}

func BenchmarkStreamSameSchema(b *testing.B) { benchmarkStream(b, "same", openAIChunks) }

func BenchmarkStreamTranslated(b *testing.B) { benchmarkStream(b, "other", anthropicChunks) }

// benchmarkStream is a whole streamed request: two gRPC streams in memory, four chunks. Most of it
// is gRPC.
func benchmarkStream(b *testing.B, target string, chunks []string) {
	p := newPeer(b)
	b.ReportAllocs()
	for b.Loop() {
		p.run(b, "id", target, streamBody, chunks...)
	}
}
