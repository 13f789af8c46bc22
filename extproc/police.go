package extproc

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"sync"
	"time"

	"millrace/config"
	"millrace/extproc/llm"
	"millrace/extproc/policy"
	millracev1 "millrace/proto/millrace/v1"
)

// police asks the policies of the rule whether the request may be sent, and takes over what they
// have changed of it: every attempt starts from that. body is as the client sent it.
func (r *routing) police(ctx context.Context, body []byte) *llm.Error {
	x := r.x
	if !x.policed {
		return nil
	}
	sum := sha256.Sum256(body)
	facts := policy.Request{
		ID: x.id, Time: x.started.UTC(), Gateway: x.route.gateway, Client: clientAddress(r.header), Method: "POST", Path: x.path,
		Schema: string(x.client.Schema.Name), Model: x.head.Model, Stream: x.head.Stream, Bytes: len(body), SHA256: hex.EncodeToString(sum[:]),
		Counts: x.counts, Service: x.route.service, Tags: x.route.tags, Headers: sync.OnceValue(r.visibleHeaders),
	}
	if x.key != nil {
		facts.Key = x.key.Name
	}
	session := x.route.policies.Start(r.server.options.Policies, x.client.Schema, facts, func() func() { return r.server.exchanges.hold(x) })
	x.mu.Lock()
	x.session = session
	x.mu.Unlock()
	began := time.Now()
	changed, e := session.Input(ctx, x.body)
	x.spent(-time.Since(began)) // that is the policies' time
	if e != nil {
		return e
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.body, x.policing = changed, false
	return nil
}

// visibleHeaders are the client's headers that policies are told: none that may carry a credential.
func (r *routing) visibleHeaders() map[string]string {
	key := presentedKey(r.header)
	told := map[string]string{}
	for _, v := range r.header {
		if config.IsCredential(v.Key) || key != "" && strings.Contains(value(v), key) {
			continue
		}
		add(told, v.Key, value(v))
	}
	return told
}

// ended tells who counts requests, and the gateway's policies, how a request has ended. What no
// gateway has is the first one's affair.
func (s *Server) ended(x *exchange, e *millracev1.Event) {
	var chain *policy.Chain
	switch runtime := s.runtime.Load(); {
	case x != nil && x.route.gateway != "":
		chain = x.route.policies
	case runtime != nil:
		chain = runtime.policies
	}
	if s.options.Recorded != nil {
		s.options.Recorded(e)
	}
	chain.End(s.options.Policies, policy.Outcome{Event: e, Asked: x != nil && x.policed})
}

// clientAddress is what Envoy has put behind all that the client itself says in x-forwarded-for.
// For a client on this machine that is an address of the machine.
func clientAddress(h headers) string {
	all := strings.Split(h.list("x-forwarded-for"), ",")
	return strings.TrimSpace(all[len(all)-1])
}
