package policy

import (
	"context"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"millrace/config"
	"millrace/extproc/policy/webhook"
	"millrace/extproc/texts"
)

// hook asks a service of the operator's, which says what becomes of the request or the answer.
type hook struct {
	client *webhook.Client
	flags  bool // what it says is only noted
}

func newWebhook(p *params) any {
	c := webhook.Config{
		URL: p.text("url"), Format: webhook.Format(p.word("format", string(webhook.Guardrail), string(webhook.Moderation))),
		Model: p.text("model"), Threshold: p.fraction("threshold"),
		Timeout: p.duration("timeout", time.Second, 8*time.Second), Retries: p.count("retries", 5), Backoff: 50 * time.Millisecond,
		Failures: 5, Pause: p.duration("pause", 10*time.Second, time.Hour),
		Concurrency: p.countOr("concurrency", 64, 10_000), MaxAnswerBytes: 1 << 20,
		CA: p.text("ca_file"), Cert: p.text("cert_file"), Key: p.text("key_file"), Headers: p.texts("headers"),
		Secret: p.secret("signing"), Refuse: config.RefusedAddress,
	}
	if token := p.secret("token"); token != "" {
		c.Headers["Authorization"] = "Bearer " + token
	}
	if at, err := url.Parse(c.URL); err == nil {
		if ip, err := netip.ParseAddr(at.Hostname()); err == nil {
			if err := config.RefusedAddress(netip.AddrPortFrom(ip, 0)); err != nil {
				p.errorf("url", "%v", err)
			}
		}
	}
	client, err := webhook.New(c)
	if err != nil {
		field, reason, _ := strings.Cut(err.Error(), ": ")
		if strings.Contains(field, " ") {
			field, reason = "url", err.Error()
		}
		p.errorf(field, "%s", reason)
	}
	return &hook{client, p.policy.Action == config.ActionFlag}
}

func (h *hook) ask(ctx context.Context, q *question) (finding, error) {
	all, err := q.doc.Texts()
	if err != nil {
		return finding{}, err
	}
	s := q.session
	asked := &webhook.Question{
		ID: s.ID, Phase: string(q.phase), Gateway: s.Gateway, Service: s.Service, Key: s.Key, Model: s.Model, Schema: s.Schema, Stream: s.Stream,
	}
	for i := range all {
		asked.Texts = append(asked.Texts, webhook.Text{Role: string(all[i].Role), Kind: kindWords[all[i].Kind], Text: all[i].Text})
	}
	said, err := h.client.Ask(ctx, asked)
	if err != nil || said.Action == webhook.Pass {
		return finding{}, err
	}
	f := finding{acts: true, action: config.Action(said.Action), reason: said.Reason}
	if said.Category != "" {
		f.found = map[string]int{said.Category: 1}
	}
	if h.flags {
		f.action = config.ActionFlag
	}
	if f.action == config.ActionRedact {
		f.instead = map[int]string{}
		for _, r := range said.Texts {
			f.instead[r.Index] = r.Text
		}
	}
	return f, nil
}

// kindWords are what services are told of what a text is.
var kindWords = map[texts.Kind]string{
	texts.Said: "text", texts.Thought: "reasoning", texts.Refusal: "refusal",
	texts.Call: "tool_call", texts.Result: "tool_result", texts.Spec: "tool_description",
}
