package extproc

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"millrace/extproc/llm"
	"millrace/extproc/policy"
	millracev1 "millrace/proto/millrace/v1"
)

// police asks the gateway's policies whether the request may be sent. body is as the client sent
// it.
func (r *routing) police(ctx context.Context, body []byte) *llm.Error {
	x := r.x
	if !x.policed {
		return nil
	}
	sum := sha256.Sum256(body)
	facts := policy.Request{
		ID: x.id, Time: x.started.UTC(), Gateway: x.route.gateway, Client: x.address, Method: "POST", Path: x.path,
		Schema: string(x.client.Schema.Name), Model: x.head.Model, Stream: x.head.Stream, Bytes: len(body), SHA256: hex.EncodeToString(sum[:]),
	}
	if x.key != nil {
		facts.Key = x.key.Name
	}
	if e := x.route.policies.Input(ctx, r.server.options.Policies, facts); e != nil {
		return e
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.policing = false
	return nil
}

// ended tells the gateway's policies how a request has ended. What no gateway has is the first
// one's affair.
func (s *Server) ended(x *exchange, e *millracev1.Event) {
	var chain *policy.Chain
	switch runtime := s.runtime.Load(); {
	case x != nil && x.route.gateway != "":
		chain = x.route.policies
	case runtime != nil:
		chain = runtime.policies
	}
	chain.End(s.options.Policies, policy.Outcome{Event: e, Asked: x != nil && x.policed})
}

// clientAddress is what Envoy has put behind all that the client itself says in x-forwarded-for.
// For a client on this machine that is an address of the machine.
func clientAddress(h headers) string {
	all := strings.Split(h.list("x-forwarded-for"), ",")
	return strings.TrimSpace(all[len(all)-1])
}
