package extproc

import (
	"testing"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"millrace/envoy"
)

// TestRepeatedHeaders: a list that comes in several lines goes on as one, in the request and in the
// answer; the same value twice is one.
func TestRepeatedHeaders(t *testing.T) {
	p := newPeer(t)
	p.targets = p.use(t, document+"\ntelemetry: {propagate: true}\n")
	lines := []string{
		":method= POST", ":path= /v1/messages", ":authority= localhost", envoy.HeaderRequestID + "= " + callID,
		"traceparent= 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "anthropic-beta= one-1", "tracestate= a=1", "anthropic-beta= two-2,three-3", "tracestate= b=2", "user-agent= app", "user-agent= app",
	}
	message := func(attribute map[string]any) *extprocv3.ProcessingRequest {
		return &extprocv3.ProcessingRequest{
			Request:    &extprocv3.ProcessingRequest_RequestHeaders{RequestHeaders: &extprocv3.HttpHeaders{Headers: headerMap(lines...)}},
			Attributes: attributes(attribute),
		}
	}
	router := p.open(t, envoy.StreamRouter)
	exchangeMessage(t, router, message(map[string]any{envoy.AttributeRoute: routeName}))
	exchangeMessage(t, router, &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestBody{
		RequestBody: &extprocv3.HttpBody{Body: []byte(apps[1].whole), EndOfStream: true},
	}})
	stream := p.open(t, envoy.StreamUpstream)
	sent := exchangeMessage(t, stream, attempted(message(nil), p.targets["other"], routeName))
	got := map[string]string{}
	for _, h := range sent.GetRequestHeaders().GetResponse().GetHeaderMutation().GetSetHeaders() {
		got[h.Header.Key] = string(h.Header.RawValue)
	}
	for name, want := range map[string]string{"anthropic-beta": "one-1, two-2,three-3", "tracestate": "a=1, b=2", "user-agent": "app"} {
		if got[name] != want {
			t.Errorf("the target gets %s: %q, want %q", name, got[name], want)
		}
	}

	answer := p.call(t, apps[0], plainBody, "same").head(":status= 200", "content-type= application/json",
		"content-language= en", "cache-control= no-store", "content-language= de", "cache-control= private", "date= today", "date= today")
	answer.ends(wholeAnswers[targetSchemas["same"]]).all()
	for name, want := range map[string]string{"content-language": "en, de", "cache-control": "no-store, private", "date": "today"} {
		if got := answer.header.Get(name); got != want {
			t.Errorf("the client gets %s: %q, want %q", name, got, want)
		}
	}
}
