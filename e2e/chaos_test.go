package e2e

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"millrace/internal/fakellm"
	millracev1 "millrace/proto/millrace/v1"
)

// fault is what a provider does to a request, and what comes of it. Cells read "what the client
// gets | attempts | the event's error"; the event's status and attempts are the client's own, or
// the test fails.
type fault struct {
	name   string
	does   string                    // for readers of the document
	target func(t *testing.T) string // the base URL of a target that cannot be talked to; nil: there is one, which replies
	reply  func(s scene) fakellm.Reply
	plain  cells
	stream cells
	both   cells // in place of plain and stream
}

// cells are the three situations: the target is alone, a good one of the other schema is next, the
// next has the same fault.
type cells struct{ alone, next, down string }

// scene is what a reply may depend on.
type scene struct {
	schema string
	stream bool
	seen   <-chan struct{} // closed once the client has the first token
}

var faults = []fault{
	{
		name: "connect refused", does: "nothing listens on the port", target: refused,
		both: cells{
			alone: `503 server_error from a | a=none;a=none;a=none | target "a": no connection`,
			next:  "200 answer from b | a=none;b=200 | ",
			down:  `503 server_error from a | a=none;b=none;a=none | target "a": no connection`,
		},
	},
	{
		name: "TLS failure", does: "the certificate is of an unknown authority", target: untrusted,
		both: cells{
			alone: `503 server_error from a | a=none;a=none;a=none | target "a": no connection`,
			next:  "200 answer from b | a=none;b=200 | ",
			down:  `503 server_error from a | a=none;b=none;a=none | target "a": no connection`,
		},
	},
	{
		name: "DNS failure", does: "the host name does not exist", target: nameless,
		both: cells{
			alone: `503 server_error from a | a=none;a=none;a=none | target "a": no connection`,
			next:  "200 answer from b | a=none;b=200 | ",
			down:  `503 server_error from a | a=none;b=none;a=none | target "a": no connection`,
		},
	},
	{
		name: "reset before headers", does: "the connection is reset before the status line",
		reply: func(scene) fakellm.Reply { return fakellm.RefuseTCP() },
		both: cells{
			alone: `503 server_error from a | a=none;a=none;a=none | target "a": the connection was closed before an answer`,
			next:  "200 answer from b | a=none;b=200 | ",
			down:  `503 server_error from a | a=none;b=none;a=none | target "a": the connection was closed before an answer`,
		},
	},
	{
		name: "reset after headers", does: "the connection is reset behind a 200 and its headers",
		reply: func(s scene) fakellm.Reply { return s.ok(fakellm.ResetTCP) },
		both: cells{
			alone: "502 or 503 server_error | a=none;a=none;a=none | ended before an answer",
			next:  "200 answer from b | a=none;b=200 | ",
			down:  "502 or 503 server_error | a=none;b=none;a=none | ended before an answer",
		},
	},
	{
		name: "reset mid-stream", does: "the connection is reset in the middle of the answer; of a stream once a token is at the client",
		reply: func(s scene) fakellm.Reply { return s.begun(fakellm.ResetTCP) },
		plain: cells{
			alone: "502 or 503 server_error | a=none;a=none;a=none | ended before an answer",
			next:  "200 answer from b | a=none;b=200 | ",
			down:  "502 or 503 server_error | a=none;b=none;a=none | ended before an answer",
		},
		stream: cells{
			alone: "200 begun, then cut from a | a=200 | the stream was cut",
			next:  "200 begun, then cut from a | a=200 | the stream was cut",
			down:  "200 begun, then cut from a | a=200 | the stream was cut",
		},
	},
	{
		name: "500", does: "an error in the provider's schema",
		reply: func(scene) fakellm.Reply { return fakellm.Fail(500, "boom") },
		both: cells{
			alone: "500 server_error from a | a=500;a=500;a=500 | boom",
			next:  "200 answer from b | a=500;b=200 | ",
			down:  "500 server_error from a | a=500;b=500;a=500 | boom",
		},
	},
	{
		name: "503", does: "an error in the provider's schema",
		reply: func(scene) fakellm.Reply { return fakellm.Fail(503, "down") },
		both: cells{
			alone: "503 server_error from a | a=503;a=503;a=503 | down",
			next:  "200 answer from b | a=503;b=200 | ",
			down:  "503 server_error from a | a=503;b=503;a=503 | down",
		},
	},
	{
		name: "508", does: "the answer of a gateway that the request has passed before",
		reply: func(scene) fakellm.Reply { return fakellm.Fail(508, "came back") },
		both: cells{
			alone: "508 server_error from a | a=508 | came back",
			next:  "508 server_error from a | a=508 | came back",
			down:  "508 server_error from a | a=508 | came back",
		},
	},
	{
		name: "429", does: "an error in the provider's schema, without retry-after",
		reply: func(scene) fakellm.Reply { return fakellm.Fail(429, "slow down") },
		both: cells{
			alone: "429 requests from a | a=429;a=429;a=429 | slow down",
			next:  "200 answer from b | a=429;b=200 | ",
			down:  "429 requests from a | a=429;b=429;a=429 | slow down",
		},
	},
	{
		name: "429, retry-after", does: "the same, with `retry-after: 7`",
		reply: func(scene) fakellm.Reply { return fakellm.RateLimited(7 * time.Second) },
		both: cells{
			alone: "429 requests, retry-after 7 from a | a=429;a=429;a=429 | Rate limit reached. Please try again later.",
			next:  "200 answer from b | a=429;b=200 | ",
			down:  "429 requests, retry-after 7 from a | a=429;b=429;a=429 | Rate limit reached. Please try again later.",
		},
	},
	{
		name: "529", does: "Anthropic's status for overload",
		reply: func(scene) fakellm.Reply { return fakellm.Overloaded() },
		both: cells{
			alone: "503 server_error from a | a=503;a=503;a=503 | Overloaded",
			next:  "200 answer from b | a=503;b=200 | ",
			down:  "503 server_error from a | a=503;b=503;a=503 | Overloaded",
		},
	},
	{
		name: "401", does: "the provider refuses the gateway's key",
		reply: func(scene) fakellm.Reply { return fakellm.Fail(401, "Incorrect API key provided.") },
		both: cells{
			alone: "502 server_error from a | a=401 | Incorrect API key provided.",
			next:  "200 answer from b | a=401;b=200 | ",
			down:  "502 server_error from a | a=401;b=401;a=401 | Incorrect API key provided.",
		},
	},
	{
		name: "404 for the model", does: "the provider says that it has no such model",
		reply: func(scene) fakellm.Reply { return fakellm.Fail(404, "no such model") },
		both: cells{
			alone: "502 server_error from a | a=404 | no such model",
			next:  "200 answer from b | a=404;b=200 | ",
			down:  "502 server_error from a | a=404;b=404;a=404 | no such model",
		},
	},
	{
		name: "thinks aloud", does: "signs of life for longer than the timeout, of a stream comments behind its preamble, of a whole answer white space; then the answer",
		reply: func(s scene) fakellm.Reply { return s.thinks() },
		plain: cells{
			alone: `504 timeout from a | a=504 | target "a": no answer in time`,
			next:  "200 answer from b | a=504;b=200 | ",
			down:  `504 timeout from b | a=504;b=504 | target "b": no answer in time`,
		},
		stream: cells{
			alone: "200 answer from a | a=200 | ",
			next:  "200 answer from a | a=200 | ",
			down:  "200 answer from a | a=200 | ",
		},
	},
	{
		name: "slow headers", does: "no status line within the timeout",
		reply: func(scene) fakellm.Reply { return fakellm.Silent() },
		plain: cells{
			alone: `504 timeout from a | a=504 | target "a": no answer in time`,
			next:  "200 answer from b | a=504;b=200 | ",
			down:  `504 timeout from b | a=504;b=504 | target "b": no answer in time`,
		},
		stream: cells{
			alone: `504 timeout from a | a=504 | target "a": no answer within 2s`,
			next:  "200 answer from b | a=504;b=200 | ",
			down:  `504 timeout from a | a=504;b=504;a=504 | target "a": no answer within 2s`,
		},
	},
	{
		name: "slow first token", does: "headers, of a stream also its preamble, then nothing within the timeout",
		reply: func(s scene) fakellm.Reply { return s.ok(fakellm.Hang, s.preamble()) },
		plain: cells{
			alone: `504 timeout from a | a=504 | target "a": no answer in time`,
			next:  "200 answer from b | a=504;b=200 | ",
			down:  `504 timeout from b | a=504;b=504 | target "b": no answer in time`,
		},
		stream: cells{
			alone: `504 timeout from a | a=504 | target "a": silent for 2s before its first token`,
			next:  "200 answer from b | a=504;b=200 | ",
			down:  `504 timeout from a | a=504;b=504;a=504 | target "a": silent for 2s before its first token`,
		},
	},
	{
		name: "silence mid-stream", does: "half an answer, of a stream one token, then nothing more",
		reply: func(s scene) fakellm.Reply { return s.begun(fakellm.Hang) },
		plain: cells{
			alone: `504 timeout from a | a=504 | target "a": no answer in time`,
			next:  "200 answer from b | a=504;b=200 | ",
			down:  `504 timeout from b | a=504;b=504 | target "b": no answer in time`,
		},
		stream: cells{
			alone: `200 begun, then error event timeout from a | a=504 | target "a": the stream was silent for 2s`,
			next:  `200 begun, then error event timeout from a | a=504 | target "a": the stream was silent for 2s`,
			down:  `200 begun, then error event timeout from a | a=504 | target "a": the stream was silent for 2s`,
		},
	},
	{
		name: "malformed", does: "200 with a body, or a stream whose first event, is broken JSON",
		reply: func(s scene) fakellm.Reply { return s.ok(fakellm.Finish, s.either(`{oops`, "data: {oops\n\n")) },
		plain: cells{
			alone: "502 server_error from a | a=502;a=502;a=502 | the provider's answer is not a chat completion",
			next:  "200 answer from b | a=502;b=200 | ",
			down:  "502 server_error from a | a=502;b=502;a=502 | the provider's answer is not a chat completion",
		},
		stream: cells{
			alone: "502 server_error from a | a=502;a=502;a=502 | the provider's stream holds something that is not a chat completion chunk",
			next:  "200 answer from b | a=502;b=200 | ",
			down:  "502 server_error from a | a=502;b=502;a=502 | the provider's stream holds something that is not a chat completion chunk",
		},
	},
	{
		name: "malformed mid-stream", does: "the same behind a token",
		reply: func(s scene) fakellm.Reply {
			return s.ok(fakellm.Finish, s.either(`{"choices":[{"message":{oops`, s.preamble()), s.either("", s.token()), s.either("", "data: {oops\n\n"))
		},
		plain: cells{
			alone: "502 server_error from a | a=502;a=502;a=502 | the provider's answer is not a chat completion",
			next:  "200 answer from b | a=502;b=200 | ",
			down:  "502 server_error from a | a=502;b=502;a=502 | the provider's answer is not a chat completion",
		},
		stream: cells{
			alone: "200 begun, then error event server_error from a | a=502 | the provider's stream holds something that is not a chat completion chunk",
			next:  "200 begun, then error event server_error from a | a=502 | the provider's stream holds something that is not a chat completion chunk",
			down:  "200 begun, then error event server_error from a | a=502 | the provider's stream holds something that is not a chat completion chunk",
		},
	},
	{
		name: "error in 200", does: "200 with an error in the provider's schema, of a stream as its first event",
		reply: func(s scene) fakellm.Reply {
			if s.stream {
				return fakellm.FailInStream(529, "Overloaded")
			}
			r := fakellm.Overloaded()
			r.Status = 200
			return r
		},
		both: cells{
			alone: "500 server_error from a | a=500;a=500;a=500 | Overloaded",
			next:  "200 answer from b | a=500;b=200 | ",
			down:  "500 server_error from a | a=500;b=503;a=500 | Overloaded",
		},
	},
	{
		name: "error mid-stream", does: "an error event behind a token; of a whole answer the same as above",
		reply: func(s scene) fakellm.Reply {
			if !s.stream {
				r := fakellm.Overloaded()
				r.Status = 200
				return r
			}
			r := s.ok(fakellm.Finish, s.preamble(), s.token())
			r.ErrorEvent = &fakellm.Failure{Status: 529, Message: "Overloaded"}
			return r
		},
		plain: cells{
			alone: "500 server_error from a | a=500;a=500;a=500 | Overloaded",
			next:  "200 answer from b | a=500;b=200 | ",
			down:  "500 server_error from a | a=500;b=503;a=500 | Overloaded",
		},
		stream: cells{
			alone: "200 begun, then error event server_error from a | a=500 | Overloaded",
			next:  "200 begun, then error event server_error from a | a=500 | Overloaded",
			down:  "200 begun, then error event server_error from a | a=500 | Overloaded",
		},
	},
	{
		name: "empty stream", does: "200 and nothing",
		reply: func(s scene) fakellm.Reply { return s.ok(fakellm.Finish) },
		plain: cells{
			alone: "502 server_error from a | a=502;a=502;a=502 | the provider's answer is not a chat completion",
			next:  "200 answer from b | a=502;b=200 | ",
			down:  "502 server_error from a | a=502;b=502;a=502 | the provider's answer is not a chat completion",
		},
		stream: cells{
			alone: `502 server_error from a | a=502;a=502;a=502 | target "a": the stream broke off`,
			next:  "200 answer from b | a=502;b=200 | ",
			down:  `502 server_error from a | a=502;b=502;a=502 | target "a": the stream broke off`,
		},
	},
	{
		name: "early end", does: "the answer ends properly, as HTTP sees it, after half of it; of a stream after one token",
		reply: func(s scene) fakellm.Reply {
			return s.ok(fakellm.Finish, s.either(half, s.preamble()), s.either("", s.token()))
		},
		plain: cells{
			alone: "502 server_error from a | a=502;a=502;a=502 | the provider's answer is not a chat completion",
			next:  "200 answer from b | a=502;b=200 | ",
			down:  "502 server_error from a | a=502;b=502;a=502 | the provider's answer is not a chat completion",
		},
		stream: cells{
			alone: `200 begun, then error event server_error from a | a=502 | target "a": the stream broke off`,
			next:  `200 begun, then error event server_error from a | a=502 | target "a": the stream broke off`,
			down:  `200 begun, then error event server_error from a | a=502 | target "a": the stream broke off`,
		},
	},
	{
		name: "half an event", does: "the stream ends properly, as HTTP sees it, in the middle of an event behind a token; of a whole answer the same as above",
		reply: func(s scene) fakellm.Reply {
			return s.ok(fakellm.Finish, s.either(half, s.preamble()), s.either("", s.token()), s.either("", s.token()[:len(s.token())/2]))
		},
		plain: cells{
			alone: "502 server_error from a | a=502;a=502;a=502 | the provider's answer is not a chat completion",
			next:  "200 answer from b | a=502;b=200 | ",
			down:  "502 server_error from a | a=502;b=502;a=502 | the provider's answer is not a chat completion",
		},
		stream: cells{
			alone: `200 begun, then error event server_error from a | a=502 | target "a": the stream broke off`,
			next:  `200 begun, then error event server_error from a | a=502 | target "a": the stream broke off`,
			down:  `200 begun, then error event server_error from a | a=502 | target "a": the stream broke off`,
		},
	},
	{
		name: "wrong content type", does: "200 with a page of HTML",
		reply: func(scene) fakellm.Reply { return fakellm.HTML(200, "<html>sorry</html>") },
		both: cells{
			alone: "502 server_error from a | a=502;a=502;a=502 | the provider's answer is not a chat completion",
			next:  "200 answer from b | a=502;b=200 | ",
			down:  "502 server_error from a | a=502;b=502;a=502 | the provider's answer is not a chat completion",
		},
	},
	{
		name: "giant event", does: "an answer of 2 MiB where 1 is allowed; of a stream one event of 9 MiB, more than the 8 that are read",
		reply: func(s scene) fakellm.Reply { return s.ok(fakellm.Finish, s.either(giant[:2<<20], "data: "+giant)) },
		plain: cells{
			alone: `502 server_error from a | a=502;a=502;a=502 | target "a": the answer is larger than 1048576 bytes`,
			next:  "200 answer from b | a=502;b=200 | ",
			down:  `502 server_error from a | a=502;b=502;a=502 | target "a": the answer is larger than 1048576 bytes`,
		},
		stream: cells{
			alone: `502 server_error from a | a=502;a=502;a=502 | target "a": unreadable stream: openai stream: sse: event too large`,
			next:  "200 answer from b | a=502;b=200 | ",
			down:  `502 server_error from a | a=502;b=502;a=502 | target "a": unreadable stream: openai stream: sse: event too large`,
		},
	},
}

var giant = strings.Repeat("x", 9<<20)

const half = `{"id":"x","object":"chat.completion","choices":[{"index":0,"mess`

// ok is a 200 with these pieces as its body.
func (s scene) ok(end fakellm.End, pieces ...string) fakellm.Reply {
	return fakellm.Reply{
		Header: http.Header{"Content-Type": {s.either("application/json", "text/event-stream")}},
		Steps:  fakellm.Chunks(pieces...),
		End:    end,
	}
}

// begun is an answer that ends in its middle. A stream's token is at the client by then.
func (s scene) begun(end fakellm.End) fakellm.Reply {
	if !s.stream {
		return s.ok(end, half)
	}
	r := s.ok(end, s.preamble(), s.token())
	if end != fakellm.Hang {
		r.Steps = append(r.Steps, fakellm.Step{Pace: fakellm.Pace{Gate: s.seen}})
	}
	return r
}

// thinks is an answer that takes longer than the timeout and gives a sign of life every half
// second.
func (s scene) thinks() fakellm.Reply {
	if s.stream {
		return thinking(s.schema, openRouter, 7)
	}
	r := s.ok(fakellm.Hang)
	for range 7 {
		r.Steps = append(r.Steps, fakellm.Step{Pace: fakellm.Pace{Delay: 500 * time.Millisecond}, Bytes: " "})
	}
	return r
}

func (s scene) either(plain, stream string) string {
	if s.stream {
		return stream
	}
	return plain
}

// preamble is what a stream says before its first token; of a whole answer, nothing.
func (s scene) preamble() string {
	switch {
	case !s.stream:
		return ""
	case s.schema == fakellm.OpenAIChat:
		return `data: {"id":"x","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}` + "\n\n"
	default:
		return "event: message_start\n" +
			`data: {"type":"message_start","message":{"id":"m","type":"message","role":"assistant","model":"x","content":[],"usage":{"input_tokens":1,"output_tokens":1}}}` + "\n\n" +
			"event: content_block_start\n" + `data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}` + "\n\n"
	}
}

func (s scene) token() string {
	if s.schema == fakellm.OpenAIChat {
		return `data: {"id":"x","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"one"}}]}` + "\n\n"
	}
	return "event: content_block_delta\n" + `data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"one"}}` + "\n\n"
}

// refused is a port that is taken, so that nobody else gets it, and does not listen.
func refused(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	address, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("http://127.0.0.1:%d", address.(*syscall.SockaddrInet4).Port)
}

// untrusted is a TLS server whose certificate no authority of this machine has signed.
func untrusted(t *testing.T) string {
	t.Helper()
	_, conf := certificate(t)
	s, err := fakellm.StartTLS(openAI("untrusted"), "", conf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s.URL()
}

// nameless is a host that does not exist: RFC 2606 keeps the name for that.
func nameless(*testing.T) string { return "http://nowhere.invalid:80" }

// cell is one row of the matrix in one situation, for one kind of request.
type cell struct {
	fault     *fault
	situation string
	stream    bool
	want      string

	name string        // of the upstream, and the rule's path
	seen chan struct{} // closed once the client has the first bytes

	// What the run gave.
	client   string
	header   http.Header
	status   int
	attempts string
	err      string
}

var situations = []struct{ name, title string }{
	{"alone", "The target is alone"},
	{"next", "A healthy target is next"},
	{"down", "All targets have the fault"},
}

func matrix() []*cell {
	var all []*cell
	for i := range faults {
		f := &faults[i]
		for j, stream := range []bool{false, true} {
			want := []cells{f.plain, f.stream}[j]
			if f.both != (cells{}) {
				want = f.both
			}
			for k, w := range []string{want.alone, want.next, want.down} {
				all = append(all, &cell{
					fault: f, situation: situations[k].name, stream: stream, want: w,
					name: fmt.Sprintf("c%d", len(all)), seen: make(chan struct{}),
				})
			}
		}
	}
	return all
}

func (c *cell) String() string { return fmt.Sprintf("%s, %s, %s", c.fault.name, c.kind(), c.situation) }

func (c *cell) kind() string {
	if c.stream {
		return "stream"
	}
	return "plain"
}

func (c *cell) got() string { return c.client + " | " + c.attempts + " | " + c.err }

// TestFaultMatrix tries every fault on every kind of request in every situation, and keeps
// docs/failure-modes.md. Each cell has targets of its own and nothing is ejected, so that none
// influences another.
func TestFaultMatrix(t *testing.T) {
	all := matrix()
	var providers []*fakellm.Provider
	var document strings.Builder
	document.WriteString("upstreams:\n")
	for _, c := range all {
		fmt.Fprintf(&document, "- name: %s\n  health_checks: {passive: false}\n  targets:\n", c.name)
		target := func(p *fakellm.Provider, priority int, faulty bool) {
			var url string
			if faulty && c.fault.target != nil {
				url = c.fault.target(t)
			} else {
				if faulty {
					p.Always(c.fault.reply(scene{p.Schema, c.stream, c.seen}))
				}
				providers = append(providers, p)
				url = provider(t, p).URL()
			}
			kind, _, _ := strings.Cut(p.Schema, ".")
			fmt.Fprintf(&document, "  - {id: %s, provider: {type: %s, base_url: %q, secret_key_ref: %s}, priority: %d, default_model: m}\n",
				p.Name, kind, url+"/v1", p.Key, priority)
		}
		target(openAI("a"), 1, true)
		if c.situation != "alone" {
			target(anthropicAI("b"), 2, c.situation == "down")
		}
	}
	document.WriteString("services:\n")
	for _, c := range all {
		fmt.Fprintf(&document, "- {name: %[1]s, upstream: %[1]s}\n", c.name)
	}
	document.WriteString("rules:\n")
	for _, c := range all {
		fmt.Fprintf(&document, "- {path: /%[1]s, service: %[1]s, strip_path: true}\n", c.name)
	}
	g := start(t, "max_request_bytes: 1MiB\n"+
		"timeouts: {request_timeout: 2s, connect_timeout: 2s, first_byte_timeout: 2s}\n"+
		"streaming: {inter_chunk_timeout: 2s}\n", document.String())

	queue := make(chan *cell, len(all))
	for _, c := range all {
		queue <- c
	}
	close(queue)
	parallel(16, 16, func(int) {
		for c := range queue {
			c.ask(g)
		}
	})
	events := g.eventsOf(all)
	for _, c := range all {
		c.read(t, events)
		if got := c.got(); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c, got, c.want)
		}
	}
	nothingIsLeft(t, providers)
	keepDocument(t, "../docs/failure-modes.md", failureModes(all))
}

// hang is when a client gives up: several times what all timeouts together may take.
const hang = 12 * time.Second

// ask sends the request and words what the client saw.
func (c *cell) ask(g *gateway) {
	body := chatHello
	if c.stream {
		body = chatStream
	}
	ctx, cancel := context.WithTimeout(context.Background(), hang)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, "POST", g.URL+"/"+c.name+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		c.client = err.Error()
		return
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		c.client = "no answer: " + err.Error()
		return
	}
	defer response.Body.Close()
	c.status, c.header = response.StatusCode, response.Header
	data, err := io.ReadAll(&noticing{Reader: response.Body, notice: sync.OnceFunc(func() { close(c.seen) })})
	c.client = fmt.Sprintf("%d %s", response.StatusCode, c.ending(string(data), err))
	if after := response.Header.Get("retry-after"); after != "" {
		c.client += ", retry-after " + after
	}
}

// noticing tells of the first bytes.
type noticing struct {
	io.Reader
	notice func()
}

func (n *noticing) Read(p []byte) (int, error) {
	count, err := n.Reader.Read(p)
	if count > 0 {
		n.notice()
	}
	return count, err
}

// ending words how the answer ended. What is not one of the known endings is shown as it is, which
// no cell expects.
func (c *cell) ending(body string, err error) string {
	streamed := strings.HasPrefix(c.header.Get("content-type"), "text/event-stream")
	switch {
	case err != nil && streamed:
		begun := streamEnding(body)
		if !strings.HasPrefix(begun, "begun, then error event") {
			begun = "begun, then"
		}
		return begun + " " + brokenOff(err)
	case err != nil:
		return brokenOff(err)
	case c.status == 200 && streamed:
		return streamEnding(body)
	case c.status == 200:
		var whole struct {
			Choices []struct {
				Message      struct{ Content string }
				FinishReason string `json:"finish_reason"`
			}
		}
		if json.Unmarshal([]byte(body), &whole) == nil && !c.stream && len(whole.Choices) == 1 && whole.Choices[0].FinishReason != "" {
			return "answer"
		}
	default:
		if kind := errorType(body); kind != "" {
			return kind
		}
	}
	return fmt.Sprintf("%q", body)
}

func brokenOff(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return "left open"
	}
	return "cut"
}

// streamEnding: a stream is complete with a finish reason and [DONE], broken with an error as its
// last event, and never both.
func streamEnding(body string) string {
	rest, terminated := strings.CutSuffix(body, "\n\n")
	events := strings.Split(rest, "\n\n")
	last, data := strings.CutPrefix(events[len(events)-1], "data: ")
	finished := strings.Contains(body, `"finish_reason":"stop"`)
	failed := strings.Contains(body, `data: {"error":`)
	switch {
	case !terminated || !data:
	case last == "[DONE]" && finished && !failed:
		return "answer"
	case failed && !finished && !strings.Contains(body, "[DONE]") && errorType(last) != "":
		return "begun, then error event " + errorType(last)
	}
	return fmt.Sprintf("%q", body)
}

// errorType reads an OpenAI error; "" when it is none.
func errorType(body string) string {
	var e struct {
		Error struct{ Message, Type string }
	}
	if json.Unmarshal([]byte(body), &e) != nil || e.Error.Message == "" {
		return ""
	}
	return e.Error.Type
}

// eventsOf waits until each request has its event, and checks that there is no other.
func (g *gateway) eventsOf(all []*cell) map[string]*millracev1.Event {
	g.t.Helper()
	byID := map[string]*millracev1.Event{}
	g.eventually("an event for each request", func() error {
		clear(byID)
		events := g.readEvents()
		for _, e := range events {
			byID[e.Id] = e
		}
		var missing []string
		for _, c := range all {
			if byID[c.header.Get("x-millrace-request-id")] == nil {
				missing = append(missing, fmt.Sprintf("%s (%s)", c, c.client))
			}
		}
		if len(missing) > 0 {
			return fmt.Errorf("none for %s", strings.Join(missing, "; "))
		}
		if len(events) != len(all) || len(byID) != len(all) {
			g.t.Fatalf("%d events with %d ids for %d requests", len(events), len(byID), len(all))
		}
		return nil
	})
	return byID
}

// read completes the cell by its event, which must not contradict what the client saw.
func (c *cell) read(t *testing.T, events map[string]*millracev1.Event) {
	t.Helper()
	e := events[c.header.Get("x-millrace-request-id")]
	if e == nil {
		t.Errorf("%s: %s: no event", c, c.client)
		return
	}
	var attempts []string
	for _, a := range e.Attempts {
		outcome := fmt.Sprint(a.Status)
		if a.Status == 0 {
			outcome = "none"
		}
		attempts = append(attempts, cmp.Or(a.Target, "unreached")+"="+outcome)
	}
	c.attempts, c.err = strings.Join(attempts, ";"), e.Error
	if e.Status < 300 { // what the headers say of an attempt whose stream failed later is what was known then
		attempts[len(attempts)-1] = e.Target + "=" + fmt.Sprint(e.Status)
	}
	told := strings.Join(attempts, ";")
	if e.Target != "" {
		c.client += " from " + e.Target
	}
	if int(e.Status) != c.status || e.Stream != c.stream {
		t.Errorf("%s: the client saw %s, the event says %v", c, c.client, e)
	}
	said := c.header.Get("x-millrace-attempts")
	if answered := c.header.Get("x-millrace-target"); answered != e.Target {
		t.Errorf("%s: the client was told of target %q, the event says %q", c, answered, e.Target)
	}
	if said != "" && said != told {
		t.Errorf("%s: the client was told of attempts %s, the event says %s", c, said, c.attempts)
	}
	if strings.HasPrefix(c.fault.name, "reset") && e.Target == "" { // depends on what Envoy was reading when the reset came
		c.client = strings.Replace(c.client, "503", "502", 1)
		c.client = strings.Replace(c.client, "502", "502 or 503", 1)
	}
	if (c.err == "") != strings.Contains(c.client, "200 answer") {
		t.Errorf("%s: the client saw %s, the event's error is %q", c, c.client, c.err)
	}
}

// nothingIsLeft: no provider goes on working for a request that is over.
func nothingIsLeft(t *testing.T, providers []*fakellm.Provider) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, p := range providers {
		for _, r := range p.Requests() {
			if _, err := p.WaitEnded(ctx, r.N); err != nil {
				t.Errorf("a request is still open at a provider: %s %s", r.Path, r.Body)
			}
		}
	}
}

const failureModesHead = `# What a failing provider looks like

What a client of OpenAI's schema sees, and what the event says, for everything a provider can do wrong. This page is written by a
run against a real Envoy and scripted providers ([e2e/chaos_test.go](../e2e/chaos_test.go), ` + "`make chaos`" + `), and a test fails when it is
not what a run gives.

Target ` + "`a`" + ` speaks the client's schema, ` + "`b`" + `, the next one, Anthropic's. There are up to three attempts, the default; ejection is off
and all timeouts are two seconds. The columns:

- **client**: the status, and either *answer* (complete), or the type of the error in the body, or, of a stream that had *begun*, how it
  ended: with an error event of the client's schema, or *cut*: Envoy closes an HTTP/1.1 connection in the middle, within five
  seconds (an HTTP/2 stream is reset at once). *from* is ` + "`x-millrace-target`" + `;
  without it Envoy answered.
- **attempts**: the event's, which is ` + "`x-millrace-attempts`" + ` but for a stream that failed once it had begun. *none* gave no status
  before it was given up, or could not be connected to.
- **error**: the event's. Its status is the client's. What is between gateway and provider (401,
  402, 403, 404 for the model, 408, 425, 498) is not the client's affair: it is told 502 or 503 in
  words of the gateway's, and the provider's own words are in the event. The attempts have the
  provider's status.

## What the limits mean

- **A stream before its first token**: ` + "`timeouts.first_byte_timeout`" + ` (300s) is how long a target may
  be *silent*. Any byte is a sign of life: a head, a role, a comment, a ping.
  ` + "`timeouts.first_token_timeout`" + ` (off) bounds the whole wait. Both are by attempt; when one is over,
  the next target is asked. Where there is no other target, the one that is late is not asked again.
- Where ` + "`first_byte_timeout`" + ` is less than ` + "`streaming.inter_chunk_timeout`" + ` (30s), or
  ` + "`connection_pool.http2`" + ` is on, an answer that still shows signs of life after first_byte_timeout
  becomes the client's: its head goes out, and what fails after that the client is told.
- **A whole answer**: ` + "`timeouts.request_timeout`" + ` (600s) is for all attempts together. An attempt may
  take ` + "`retry.per_try_timeout`" + `; unless it is set, that is half of request_timeout where there is
  another target, else all of it.
- **The client's own limit**: SDKs say how long they wait, in ` + "`x-stainless-timeout`" + ` or
  ` + "`x-stainless-read-timeout`" + `, in seconds. Where that is less than the limits above, the request ends
  with a 504 a second before (a tenth before, where that is less): of a stream, while it has nothing
  for the client yet. It is no failure of the target's. What is no number, not above 0 or a day and
  more is not heeded.
- ` + "`retry.on`" + ` lists what another target is asked after. ` + "`retry.attempts: 0`" + ` is none.
`

const failureModesEjection = `
## What takes a target away

Ejection was off above. It is on unless ` + "`" + `health_checks` + "`" + ` says otherwise. A target that fails ` + "`" + `threshold` + "`" + ` requests in a row (3) is out for
` + "`" + `interval` + "`" + ` (60 s): it is asked only when no other target can serve.

- A request counts once at each target, however often it was tried there. It fails a target by 5xx, 429, no connection, a reset,
  silence, and by an error before the first token, in a 200 too.
- It says that the target works by any other answer, 4xx included, and nothing when its client leaves, when a stream breaks off later,
  or when a 429, 503 or 529 says when to come back: then the target rests until that time, at most ` + "`" + `max_cooldown` + "`" + `.
- The second time it is out for twice as long, the third for three times, up to five minutes (or ` + "`" + `interval` + "`" + `, when that is longer). Each
  ` + "`" + `interval` + "`" + ` of good time takes one of them off.
- A target that is alone in its upstream is never out. When all are out, all are asked.
- ` + "`" + `circuit_breaker` + "`" + ` does the same by the percentage of failed requests, for ` + "`" + `reset` + "`" + `.
- The health of an upstream (REST, ` + "`" + `GET …/upstreams/{id}/health` + "`" + `) says until when a target is out and why; the log has a line for each.
- While the sidecar is dead, Envoy counts attempts for an open service, and leaves one target in.
`

// failureModes writes the document.
func failureModes(all []*cell) string {
	var b strings.Builder
	b.WriteString(failureModesHead)
	for _, s := range situations {
		fmt.Fprintf(&b, "\n## %s\n\n| fault | request | client | attempts | error |\n|---|---|---|---|---|\n", s.title)
		var rows []*cell
		for _, c := range all {
			if c.situation == s.name {
				rows = append(rows, c)
			}
		}
		for i := 0; i < len(rows); i++ {
			c, kind := rows[i], rows[i].kind()
			if !c.stream && rows[i+1].got() == c.got() {
				kind = "both"
				i++
			}
			row := strings.Join([]string{c.fault.name, kind, c.client, c.attempts, c.err}, " | ")
			fmt.Fprintf(&b, "| %s |\n", strings.ReplaceAll(row, " |  ", " | "))
		}
	}
	b.WriteString(failureModesEjection)
	b.WriteString("\n## The faults\n\n")
	for _, f := range faults {
		fmt.Fprintf(&b, "- **%s**: %s\n", f.name, f.does)
	}
	return b.String()
}

// keepDocument prints a document that a run wrote, and checks that the file is it.
// MILLRACE_WRITE_DOCS=1 rewrites the file.
func keepDocument(t *testing.T, file, text string) {
	t.Helper()
	if testing.Verbose() {
		fmt.Println(text)
	}
	if os.Getenv("MILLRACE_WRITE_DOCS") != "" {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	kept, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(kept) != text {
		t.Errorf("%s is not what this run gives: read what changed, then MILLRACE_WRITE_DOCS=1 make chaos", file)
	}
}
