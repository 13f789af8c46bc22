package extproc

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"millrace/envoy"
	"millrace/extproc/llm"
	"millrace/extproc/provider"
	"millrace/internal/redact"
	"millrace/schema"
)

// asking is a request in the terms of one target: what the target is sent, or what it is answered
// for.
type asking struct {
	x      *exchange
	route  *route // of the rule that Envoy took
	target *target
	model  string // the target's name of it; "" where the request has none and the target no default

	secrets redact.Set // what must not be in the target's errors and headers: its own, and what it is sent with this request
	certain redact.Set // what must not be in its answers either: those that no model says by chance
}

// outcome is what the target's failures mean.
func (a asking) outcome() outcome { return outcome{a.x, a.target, a.model} }

// native tells whether client and target speak the same schema, so that bytes are patched and
// relayed, not translated.
func (a asking) native() bool { return a.x.client.Schema == a.target.codec.Schema }

// codecOf is how the target is asked for what the client asks for, if it can be. A path of its own
// is that of its conversations.
func (x *exchange) codecOf(t *target) (provider.Codec, bool) {
	if t.codec.Target == nil || x.client.Operation != schema.Conversation && t.config.Path != "" {
		return provider.Codec{}, false
	}
	if x.client.Schema == t.codec.Schema {
		return x.client, x.client.Target != nil
	}
	codec, ok := provider.For(t.codec.Schema.Name, x.client.Operation)
	return codec, ok && codec.Target != nil
}

// clientHeaders are the client's headers that this target may see.
func (a asking) clientHeaders() map[string]string {
	want := maps.Clone(a.x.header)
	maps.DeleteFunc(want, func(name, _ string) bool { return !a.x.client.Schema.Takes(name) || !a.target.codec.Schema.Takes(name) })
	for name, v := range a.x.forward {
		if a.target.config.Forwards(name) {
			want[name] = v
		}
	}
	return want
}

// encode writes the body. sent are the client's headers that go along: with the target's own, which
// win, they say what version of its API a provider is asked for.
func (a asking) encode(ctx context.Context, sent map[string]string) (llm.Call, error) {
	o := a.target.options(a.model)
	o.Headers = http.Header{}
	for name, v := range sent {
		o.Headers.Set(name, v)
	}
	maps.Copy(o.Headers, a.target.config.Headers)
	if o.Model == "" {
		return llm.Call{}, llm.Invalid("model", "missing, and target %q has no default", a.target.config.ID)
	}
	codec, ok := a.x.codecOf(a.target)
	switch {
	case !ok:
		return llm.Call{}, llm.Errorf(llm.ErrInvalidRequest, "this model's provider cannot be asked for %s", a.x.client.Operation)
	case a.native():
		head := a.x.head
		head.IncludeUsage = head.IncludeUsage || a.asReported()
		return codec.Target.PatchRequest(head, a.x.body, o)
	}
	request, e := a.x.request()
	if e != nil {
		return llm.Call{}, e
	}
	if err := ctx.Err(); err != nil { // nobody waits for it any more
		return llm.Call{}, err
	}
	return codec.Target.EncodeRequest(request, o)
}

// headers completes want: what the schema needs, what the target is configured with, the address,
// and at last the credential, which may be a signature of it all.
func (a *asking) headers(want map[string]string, call *llm.Call) error {
	t := a.target.config
	want["content-type"] = "application/json"
	want["accept"] = "application/json"
	want["accept-encoding"] = "identity"
	if a.x.head.Stream {
		want["accept"] = a.target.codec.Schema.Framing.ContentType
	}
	for _, h := range []http.Header{call.Headers, t.Headers} {
		for name, values := range h {
			want[strings.ToLower(name)] = strings.Join(values, ", ")
		}
	}
	if !t.HideVia {
		want[envoy.HeaderVia] = strings.Join(append(slices.Clip(a.x.via), a.route.via), ",")
	}
	want["content-length"] = strconv.Itoa(len(call.Body))
	path := t.Path
	if path == "" {
		path = t.BasePath + call.Path
	}
	if a.target.signer != nil {
		secrets, err := a.target.signer.sign(&outgoing{method: http.MethodPost, host: t.Authority(), path: path, header: want, body: call.Body})
		if err != nil {
			return err
		}
		a.hide(secrets)
	}
	want[":authority"], want[":path"] = t.Authority(), path
	want[envoy.HeaderCluster] = t.Identity // which Envoy takes off
	return nil
}

// hide keeps further secrets from whoever reads what the target says.
func (a *asking) hide(secrets []string) {
	if len(secrets) > 0 {
		a.secrets = a.secrets.With(secrets...)
		a.certain = a.secrets.Certain()
	}
}

// countable tells whether the target can be asked to count tokens.
func (a asking) countable() bool {
	_, ok := a.x.codecOf(a.target)
	return ok && a.native()
}

// estimate is the answer to a request to count tokens that nobody was asked.
func (a asking) estimate() (body []byte, contentType string, err error) {
	request, e := a.x.request()
	if e != nil {
		return nil, "", e
	}
	n := llm.EstimateTokens(request)
	body, err = a.x.client.Client.EncodeResponse(a.x.asked(), &llm.Response{Counted: &n})
	return body, "application/json", err
}

// fixed is the answer of a target that asks nobody.
func (a asking) fixed() (body []byte, contentType string, err error) {
	codec, framing := a.x.client.Client, a.x.client.Schema.Framing
	text, model := a.target.config.Answer, a.model
	now := time.Now().Unix()
	if !a.x.head.Stream {
		body, err = codec.EncodeResponse(a.x.asked(), &llm.Response{
			ID: a.x.id, Model: model, Created: now,
			Choices: []llm.Choice{{Parts: []llm.Part{llm.Text{Text: text}}, Stop: llm.StopEnd}},
		})
		return body, "application/json", err
	}
	encoder := codec.NewStreamEncoder(a.x.asked())
	for _, e := range []llm.Event{
		{Kind: llm.Start, ID: a.x.id, Model: model, Created: now},
		{Kind: llm.TextDelta, Text: text},
		{Kind: llm.Finish, Stop: llm.StopEnd},
		{Kind: llm.UsageReport, Usage: &llm.Usage{}},
		{Kind: llm.End},
	} {
		body = encoder.Encode(body, e)
	}
	return encoder.Close(body, nil), framing.ContentType, nil
}

// status is the HTTP status for e: what the client gets, and what Envoy counts for retries and
// ejection.
func (a asking) status(e *llm.Error) int {
	if s := e.HTTPStatus(); s >= 400 {
		return a.x.client.Schema.Status(s)
	}
	return http.StatusBadGateway
}

// worded has Envoy word its own errors in the client's schema, should this process not be there to
// do it. The usual one needs no telling.
func (a asking) worded(reply *extprocv3.ProcessingResponse) *extprocv3.ProcessingResponse {
	if client := a.x.client.Schema; client != schema.Usual() {
		reply.DynamicMetadata = dynamicMetadata(map[string]map[string]string{envoy.Metadata: {envoy.MetadataSchema: string(client.Name)}})
	}
	return reply
}
