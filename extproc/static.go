package extproc

import (
	"net/http"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"millrace/extproc/llm"
)

// fixed is the answer of a target that asks nobody.
func (a *attempt) fixed() *extprocv3.ProcessingResponse {
	body, contentType, err := a.fixedBody()
	if err != nil {
		return a.unable(llm.AsError(err))
	}
	return a.instead(http.StatusOK, contentType, body, false)
}

// countable tells whether the target can be asked to count tokens. A path of its own is that of its conversations.
func (a *attempt) countable() bool { return a.native() && a.target.config.Path == "" }

// estimate answers a request to count tokens in the place of a target that cannot.
func (a *attempt) estimate() *extprocv3.ProcessingResponse {
	request, e := a.x.request()
	if e != nil {
		return a.unable(e)
	}
	n := llm.EstimateTokens(request)
	body, err := a.x.client.Client.EncodeResponse(a.x.asked(), &llm.Response{Counted: &n})
	if err != nil {
		return a.unable(llm.AsError(err))
	}
	return a.instead(http.StatusOK, "application/json", body, false, header("x-millrace-estimated", "input_tokens"))
}

func (a *attempt) fixedBody() (body []byte, contentType string, err error) {
	codec, framing := a.x.client.Client, a.x.client.Schema.Framing
	text, model := a.target.config.Answer, a.record.Model
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
