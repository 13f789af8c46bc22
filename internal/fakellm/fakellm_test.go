package fakellm

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
)

const (
	openAIHello    = `{"model":"gpt-4o","messages":[{"role":"user","content":"hi there"}]}`
	openAIStream   = `{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"hi there"}]}`
	anthropicHello = `{"model":"claude-sonnet-4-5","max_tokens":100,"messages":[{"role":"user","content":"hi there"}]}`
)

func startFake(t *testing.T, p *Provider) *Server {
	t.Helper()
	if p.Name == "" {
		p.Name = "fake"
	}
	s, err := Start(p, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// answer is a response read to its end.
type answer struct {
	status int
	header http.Header
	body   string
	err    error // of the body, or of the whole exchange when status is 0
}

func request(ctx context.Context, s *Server, p *Provider, body string) *http.Request {
	path := "/v1/chat/completions"
	if p.Schema == AnthropicMessages {
		path = "/v1/messages"
	}
	r, err := http.NewRequestWithContext(ctx, "POST", s.URL()+path, strings.NewReader(body))
	if err != nil {
		panic(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer sk-test")
	if p.Schema == AnthropicMessages {
		r.Header.Set("Anthropic-Version", versionOf2023)
	}
	return r
}

func send(t *testing.T, r *http.Request) answer {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // no retry on a reused connection
	res, err := client.Do(r)
	if err != nil {
		return answer{err: err}
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return answer{status: res.StatusCode, header: res.Header, body: string(body), err: err}
}

func post(t *testing.T, p *Provider, body string) answer {
	t.Helper()
	return send(t, request(t.Context(), startFake(t, p), p, body))
}

// member reads a member of a JSON body: "choices.0.message.content".
func member(t *testing.T, body, path string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	for name := range strings.SplitSeq(path, ".") {
		switch in := v.(type) {
		case map[string]any:
			v = in[name]
		case []any:
			i := int(name[0] - '0')
			if i >= len(in) {
				t.Fatalf("no %s in %s", path, body)
			}
			v = in[i]
		default:
			t.Fatalf("no %s in %s", path, body)
		}
	}
	return v
}

// datas are the data lines of a stream.
func datas(body string) []string {
	var all []string
	for line := range strings.Lines(body) {
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			all = append(all, strings.TrimSuffix(data, "\n"))
		}
	}
	return all
}

func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestScriptOrder(t *testing.T) {
	p := &Provider{Schema: OpenAIChat}
	s := startFake(t, p)
	p.Script(RateLimited(3*time.Second), Say("two"), Usual())
	p.Always(Fail(503, "down"))
	var got []int
	for range 5 {
		a := send(t, request(t.Context(), s, p, openAIHello))
		got = append(got, a.status)
		if a.status == 429 && a.header.Get("Retry-After") != "3" {
			t.Errorf("retry-after: %q", a.header.Get("Retry-After"))
		}
	}
	p.Reset()
	got = append(got, send(t, request(t.Context(), s, p, openAIHello)).status)
	if diff := cmp.Diff([]int{429, 200, 200, 503, 503, 200}, got); diff != "" {
		t.Error(diff)
	}
}

func TestRefusedRequestLeavesTheScript(t *testing.T) {
	p := &Provider{Schema: OpenAIChat}
	s := startFake(t, p)
	p.Script(Say("scripted"))
	if a := send(t, request(t.Context(), s, p, `{"model":"gpt-4o"}`)); a.status != 400 {
		t.Fatalf("%+v", a)
	}
	if a := send(t, request(t.Context(), s, p, openAIHello)); member(t, a.body, "choices.0.message.content") != "scripted" {
		t.Fatalf("%+v", a)
	}
	got := p.Requests()
	if got[0].Refused == nil || got[0].Refused.Param != "messages" || got[1].Refused != nil {
		t.Errorf("refused: %+v, %+v", got[0].Refused, got[1].Refused)
	}
}

func TestRecord(t *testing.T) {
	p := &Provider{Schema: AnthropicMessages}
	s := startFake(t, p)
	r := request(t.Context(), s, p, anthropicHello)
	r.URL.RawQuery = "beta=true"
	r.Header.Set("X-Foreign", "yes")
	a := send(t, r)
	got, err := p.WaitEnded(deadline(t), 1)
	if err != nil {
		t.Fatal(err)
	}
	if got.EndedAt.Before(got.At) || got.Header.Get("X-Foreign") != "yes" {
		t.Errorf("%+v", got)
	}
	got.At, got.EndedAt, got.Header = time.Time{}, time.Time{}, nil
	want := Request{N: 1, Method: "POST", Host: s.Addr(), Path: "/v1/messages", RawQuery: "beta=true", Proto: "HTTP/1.1",
		Body: []byte(anthropicHello), Length: int64(len(anthropicHello)), Status: 200, Sent: int64(len(a.body)), Counted: &Usage{Input: 2, Output: 7}, Outcome: Finished}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestRecordsAreBounded(t *testing.T) {
	p := &Provider{Schema: OpenAIChat, KeepRequests: 2}
	s := startFake(t, p)
	for range 3 {
		send(t, request(t.Context(), s, p, openAIHello))
	}
	if got := p.Requests(); len(got) != 2 || got[0].N != 2 || got[1].N != 3 {
		t.Errorf("%+v", got)
	}
	if _, err := p.WaitEnded(deadline(t), 1); !errors.Is(err, errForgotten) {
		t.Errorf("got %v", err)
	}
	if got, err := p.WaitEnded(deadline(t), 3); err != nil || got.N != 3 {
		t.Errorf("%+v, %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.WaitArrived(ctx, 4); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestProbe(t *testing.T) {
	for _, schema := range []string{OpenAIChat, AnthropicMessages} {
		p := &Provider{Schema: schema, Key: "sk-test", Models: []string{"m1"}}
		s := startFake(t, p)
		probe := func() answer {
			r, _ := http.NewRequestWithContext(t.Context(), "GET", s.URL()+"/v1/models", nil)
			r.Header.Set("Authorization", "Bearer sk-test")
			return send(t, r)
		}
		if a := probe(); a.status != 200 || member(t, a.body, "data.0.id") != "m1" {
			t.Errorf("%+v", a)
		}
		p.Probe(Fail(503, "down"))
		if a := probe(); a.status != 503 {
			t.Errorf("%+v", a)
		}
		if len(p.Requests()) != 0 || p.Probes() != 2 {
			t.Errorf("%d requests, %d probes", len(p.Requests()), p.Probes())
		}
		if a := send(t, request(t.Context(), s, p, openAIHello)); schema == OpenAIChat && a.status != 404 {
			t.Errorf("unknown model: %+v", a)
		}
	}
}

// A client that goes away ends the request, wherever it stands.
func TestClientAbort(t *testing.T) {
	never := make(chan struct{})
	for name, reply := range map[string]Reply{
		"no status line":        Silent(),
		"silence after headers": {End: Hang},
		"slow status line":      {Head: Pace{Delay: time.Hour}},
		"gate in the stream":    {Answer: &Answer{}, Each: Pace{Gate: never}},
		"hang in the stream":    {Answer: &Answer{}, StopAfter: 2, End: Hang},
		"slow stream":           {Answer: &Answer{}, Each: Pace{Delay: time.Hour}},
	} {
		t.Run(name, func(t *testing.T) {
			p := &Provider{Schema: OpenAIChat}
			s := startFake(t, p)
			p.Script(reply)
			ctx, leave := context.WithCancel(t.Context())
			gone := make(chan answer)
			go func() { gone <- send(t, request(ctx, s, p, openAIStream)) }()
			if _, err := p.WaitArrived(deadline(t), 1); err != nil {
				t.Fatal(err)
			}
			leave()
			left := time.Now()
			<-gone
			got, err := p.WaitEnded(deadline(t), 1)
			if err != nil || got.Outcome != Cancelled {
				t.Fatalf("%+v, %v", got, err)
			}
			if after := got.EndedAt.Sub(left); after > time.Second {
				t.Errorf("noticed after %v", after)
			}
		})
	}
}

func TestBrokenConnections(t *testing.T) {
	reset := func(err error) bool { return errors.Is(err, syscall.ECONNRESET) }
	eof := func(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }
	for _, c := range []struct {
		name   string
		reply  Reply
		status int
		body   string // how it begins
		broken func(error) bool
	}{
		{"reset before headers", RefuseTCP(), 0, "", reset},
		{"close before headers", Reply{NoHead: true}, 0, "", eof},
		{"reset after headers", Reply{End: ResetTCP}, 200, "", reset},
		{"close after headers", Reply{End: Cut}, 200, "", eof},
		{"close in the stream", Reply{Answer: &Answer{}, StopAfter: 2, End: Cut}, 200, `data: {"id":`, eof},
		{"close in the JSON", Reply{Body: `{"id":"x"}`, CutEvery: 3, StopAfter: 2, End: Cut}, 200, `{"id":`, eof},
		{"body shorter than promised", Reply{Body: `{"id"`, Header: http.Header{"Content-Length": {"500"}}}, 200, `{"id"`, eof},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &Provider{Schema: OpenAIChat}
			p.Script(c.reply)
			a := post(t, p, openAIStream)
			if a.status != c.status || !strings.HasPrefix(a.body, c.body) || !c.broken(a.err) {
				t.Errorf("%+v", a)
			}
			got, err := p.WaitEnded(deadline(t), 1)
			if want := c.reply.Header == nil; err != nil || want != (got.Outcome == Broken) || got.Status != c.status {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

// Over HTTP/2 a reset is the stream's.
func TestBrokenStreamHTTP2(t *testing.T) {
	p := &Provider{Schema: OpenAIChat}
	s := startFake(t, p)
	p.Script(Reply{Answer: &Answer{}, StopAfter: 2, End: ResetTCP})
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	res, err := (&http.Client{Transport: transport}).Do(request(t.Context(), s, p, openAIStream))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := io.ReadAll(res.Body); err == nil || res.ProtoMajor != 2 {
		t.Errorf("%v over %s", err, res.Proto)
	}
}

// A test can walk through a stream with a gate: each event comes when it is let through, and is
// flushed.
func TestGate(t *testing.T) {
	p := &Provider{Schema: OpenAIChat}
	s := startFake(t, p)
	head, each := make(chan struct{}), make(chan struct{})
	p.Script(Reply{
		Head:  Pace{Gate: head},
		Each:  Pace{Gate: each},
		Steps: []Step{Event("", "one"), Event("named", "two"), {Bytes: ": comment\n\n"}},
	})
	conn, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := request(t.Context(), s, p, openAIStream).Write(conn); err != nil {
		t.Fatal(err)
	}
	head <- struct{}{}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewReader(res.Body)
	for _, want := range []string{"data: one\n", "event: named\n", ": comment\n"} {
		each <- struct{}{}
		for got := ""; got != want; {
			if got, err = lines.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestRepliesOfAllSorts(t *testing.T) {
	for _, c := range []struct {
		name        string
		reply       Reply
		status      int
		contentType string
		body        string
	}{
		{"empty stream", Reply{}, 200, "text/event-stream; charset=utf-8", ""},
		{"HTML", HTML(502, "<h1>Bad gateway</h1>"), 502, "text/html; charset=utf-8", "<h1>Bad gateway</h1>"},
		{"error event first", FailInStream(500, "boom"), 200, "text/event-stream; charset=utf-8",
			`data: {"error":{"message":"boom","type":"server_error","param":null,"code":null}}` + "\n\n"},
		{"malformed stream", Reply{Steps: Chunks("data: {\"id", "\":\r", "\ndat")}, 200, "text/event-stream; charset=utf-8",
			"data: {\"id\":\r\ndat"},
		{"no content type", Reply{Body: "{}", Header: http.Header{"content-type": nil}}, 200, "", "{}"},
		{"200 with an error body", Reply{Status: 200, Failure: &Failure{Message: "no", Type: "t", Code: "c", Param: "p"}}, 200,
			"application/json", `{"error":{"message":"no","type":"t","param":"p","code":"c"}}`},
		{"body in cuts", Reply{Body: `{"a":1}`, CutEvery: 2}, 200, "application/json", `{"a":1}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &Provider{Schema: OpenAIChat}
			p.Script(c.reply)
			a := post(t, p, openAIStream)
			if a.status != c.status || a.header.Get("Content-Type") != c.contentType || a.body != c.body || a.err != nil {
				t.Errorf("%+v", a)
			}
		})
	}
}

func TestOverloaded(t *testing.T) {
	p := &Provider{Schema: AnthropicMessages}
	p.Script(Overloaded())
	a := post(t, p, anthropicHello)
	if a.status != 529 || member(t, a.body, "error.type") != "overloaded_error" ||
		member(t, a.body, "request_id") != a.header.Get("Request-Id") {
		t.Errorf("%+v", a)
	}
}

func TestServerRestart(t *testing.T) {
	p := &Provider{Name: "fake", Schema: OpenAIChat}
	p.Script(Silent())
	s, err := Start(p, "")
	if err != nil {
		t.Fatal(err)
	}
	addr, gone := s.Addr(), make(chan answer)
	go func() { gone <- send(t, request(t.Context(), s, p, openAIHello)) }()
	if _, err := p.WaitArrived(deadline(t), 1); err != nil {
		t.Fatal(err)
	}
	s.Close()
	<-gone
	if got := p.Requests()[0].Outcome; got != Cancelled {
		t.Errorf("outcome %q", got)
	}
	if s, err = Start(p, addr); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if a := send(t, request(t.Context(), s, p, openAIHello)); a.status != 200 {
		t.Errorf("%+v", a)
	}
}

func TestUnknownSchema(t *testing.T) {
	if _, err := Start(&Provider{Name: "x", Schema: "gemini"}, ""); err == nil {
		t.Error("no error")
	}
}

func TestTLS(t *testing.T) {
	certificate := httptest.NewUnstartedServer(nil)
	certificate.EnableHTTP2 = true
	certificate.StartTLS()
	defer certificate.Close()
	p := &Provider{Name: "fake", Schema: OpenAIChat}
	s, err := StartTLS(p, "", &tls.Config{Certificates: certificate.TLS.Certificates})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, c := range []struct {
		client  *http.Client
		version string
	}{
		{certificate.Client(), "HTTP/2.0"},
		{&http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}, "HTTP/1.1"},
	} {
		res, err := c.client.Do(request(t.Context(), s, p, openAIHello))
		if err != nil {
			t.Fatal(err)
		}
		if res.Body.Close(); res.Proto != c.version {
			t.Errorf("%s instead of %s", res.Proto, c.version)
		}
		c.client.CloseIdleConnections()
		p.Script(RefuseTCP())
		if res, err := c.client.Do(request(t.Context(), s, p, openAIHello)); err == nil {
			t.Errorf("%s: no reset", c.version)
			res.Body.Close()
		}
	}
}

func TestExample(t *testing.T) {
	var schema map[string]any
	if err := json.Unmarshal([]byte(`{"type":"object","required":["a","b","c","d","e","f","g","h","i","j"],"properties":{
		"a":{"type":["string","null"]},"b":{"type":"integer","minimum":7},"c":{"type":"boolean"},"d":{"type":"string","format":"date"},
		"e":{"type":"array","items":{"enum":["x","y"]}},"f":{"anyOf":[{"type":"null"},{"type":"string"}]},"g":{"const":5},
		"h":{"type":"object","properties":{"city":{"type":"string"},"z":{"type":"string"}}},"i":{},"j":{"type":"string","format":"date-time"},
		"left out":{"type":"string"}}}`), &schema); err != nil {
		t.Fatal(err)
	}
	want := `{"a":"Rome","b":7,"c":true,"d":"2026-11-12","e":["x"],"f":null,"g":5,"h":{"city":"Rome"},"i":"Rome","j":"2026-11-12T08:00:00Z"}`
	if got := string(encode(example("Rome", schema, 0))); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// Whatever the body is, the checks decide, and what they let through can be answered.
func FuzzRead(f *testing.F) {
	for _, body := range []string{openAIHello, openAIStream, anthropicHello, chatMessages(oneCall), turnsOf(toolUse), "[]", "",
		chat(function(`{"type":"object","properties":{"a":{"items":[],"anyOf":[1]}}}`)),
		message(`"thinking":{"type":"enabled","budget_tokens":1e99},"system":[{}],"stop_sequences":[null]`)} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for schema, d := range dialects {
			r := &Request{Method: "POST", Path: d.chatPath, Body: body, Header: http.Header{
				"Content-Type": {"application/json"}, "Authorization": {"Bearer x"}, "Anthropic-Version": {versionOf2023}}}
			conv, failure := d.read(r)
			id := identity{provider: "fake", request: 1}
			if failure != nil {
				if failure.Status != 400 && failure.Status != 422 || failure.Message == "" {
					t.Errorf("%s: %+v", schema, failure)
				}
				continue
			}
			if conv.choices > 4 {
				continue // only slow
			}
			for _, data := range datas(strings.Join(d.events(conv, conv.complete(Answer{}, id), id), "")) {
				if !jsontext.Value(data).IsValid() && data != "[DONE]" {
					t.Errorf("%s: %s", schema, data)
				}
			}
		}
	})
}
