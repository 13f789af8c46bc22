package extproc

import (
	"log/slog"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"millrace/extproc/policy"
	millracev1 "millrace/proto/millrace/v1"
	"millrace/schema"
)

// capturing is document with a capture, and a policy that takes words out of requests and answers.
func capturing(t *testing.T, capture string) *peer {
	p := newPeerOf(t, strings.Replace(document, "upstream: chat}", "upstream: chat, capture: "+capture+"}", 1)+
		"policies: {chain: [words], policy: {words: {kind: content-filter, words: [look, hi], action: redact}}}\n")
	p.server.options.Policies = policy.Host{Log: slog.New(slog.DiscardHandler)}
	return p
}

// TestCapture: events have nothing of what is said unless the service has it so; then they have the
// request, as the policies left it or as it came, and what the client got of the answer, whoever
// speaks to whom and in which form.
func TestCapture(t *testing.T) {
	for _, capture := range []string{"none", "redacted", "full"} {
		p := capturing(t, capture)
		for _, pair := range pairs() {
			form := "application/json"
			if pair.streams {
				form = "text/event-stream"
			}
			p.call(t, pair.app, pair.request(), pair.target).head(":status= 200", "content-type= "+form).ends(pair.answer()...).all()
			got := p.eventNow().Capture
			if capture == "none" {
				if got != nil {
					t.Errorf("%s, %s: %v", capture, pair, got)
				}
				continue
			}
			want := &millracev1.Capture{Request: pair.request(), Answer: "let me [CUSTOM]\n{\"at\":\"it\"}"}
			if capture == "redacted" {
				want.Request = strings.Replace(want.Request, `"hi"`, `"[CUSTOM]"`, 1)
			}
			if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
				t.Errorf("%s, %s (-want +got)\n%s", capture, pair, diff)
			}
		}
	}
}

// TestCaptureIsBounded: of a long request and a long answer an event has 64 KiB each, and says so.
func TestCaptureIsBounded(t *testing.T) {
	p := capturing(t, "redacted")
	long := strings.Repeat("é", maxCaptured)
	a := apps[0]
	p.call(t, a, strings.Replace(a.stream, `"hi"`, `"`+long+`"`, 1), "same").head(":status= 200", "content-type= text/event-stream").
		ends(append([]string{strings.Replace(streamedAnswers[schema.OpenAIChat][2], "let me look", long, 1)}, streamedAnswers[schema.OpenAIChat]...)...).all()
	c := p.eventNow().Capture
	for of, text := range map[string]string{"request": c.GetRequest(), "answer": c.GetAnswer()} {
		if n := len(text); n > maxCaptured || n < maxCaptured-utf8.UTFMax || !utf8.ValidString(text) {
			t.Errorf("%s: %d bytes", of, n)
		}
	}
	if !c.GetRequestTruncated() || !c.GetAnswerTruncated() {
		t.Error("it does not say that there is more")
	}
}

// TestNothingIsCaptured: of what policies refuse, and of an error, there is nothing in the event.
func TestNothingIsCaptured(t *testing.T) {
	p := newPeerOf(t, strings.Replace(document, "upstream: chat}", "upstream: chat, capture: full}", 1)+
		"policies: {chain: [words], policy: {words: {kind: content-filter, words: [secret]}}}\n")
	p.server.options.Policies = policy.Host{Log: slog.New(slog.DiscardHandler)}
	a := apps[0]
	p.routedTo(t, a, strings.Replace(a.whole, "hi", "secret", 1))
	if e := p.eventNow(); e.Capture != nil || e.Error == "" {
		t.Errorf("event %v", e)
	}
	p.call(t, a, a.whole, "same").head(":status= 400", "content-type= application/json").ends(`{"error":{"message":"no","type":"invalid_request_error"}}`).all()
	if c := p.eventNow().Capture; c.GetAnswer() != "" || c.GetRequest() != a.whole {
		t.Errorf("captured %v", c)
	}
}
