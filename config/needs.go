package config

import (
	"fmt"
	"slices"
	"strings"
)

// Message is one that Envoy can send on a stream to the sidecar.
type Message uint8

// The messages, in the order of a request.
const (
	RequestHeaders Message = iota
	RequestPieces          // of the body, each as it comes
	RequestBody            // whole
	ResponseHeaders
	ResponseBody // each piece as it comes; the sidecar speaks when it likes
	ResponseTrailers
)

func (m Message) String() string {
	return [...]string{"request headers", "request body, in pieces", "request body", "response headers", "response body, in pieces", "response trailers"}[m]
}

// Need is a message that a stream is asked for, and one reason for it. A message may be needed for
// several.
type Need struct {
	Message Message
	Until   Until
	Speaks  bool // the sidecar says something that it was not asked for
	Why     string
}

// Until is how far into an answer its body is needed.
type Until uint8

// The sidecar can detach from a stream at the first token when nothing needs more of it.
const (
	UntilEnd Until = iota
	UntilFirstToken
)

// Needs is everything that one stream is asked for. A stream without needs is not opened.
type Needs []Need

// Messages are those that are needed, each once, in the order of a request.
func (n Needs) Messages() []Message {
	var all []Message
	for _, need := range n {
		all = append(all, need.Message)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// add adds one need, if it is one.
func (n *Needs) add(need Need, is bool, why string, args ...any) {
	if is {
		need.Why = fmt.Sprintf(why, args...)
		*n = append(*n, need)
	}
}

// Envoy's filters are made of these lists. What a rule needs is never more.
var (
	AdmissionMessages = []Message{RequestHeaders, RequestPieces}
	RouterMessages    = []Message{RequestHeaders, RequestBody}
	// KeyMessages are the router stream's where it checks keys and Envoy does the rest (Plan.Bare).
	KeyMessages      = []Message{RequestHeaders}
	UpstreamMessages = []Message{RequestHeaders, ResponseHeaders, ResponseBody, ResponseTrailers}
	// JoinedMessages are the upstream stream's of a first attempt that reads the request, too
	// (Plan.Joined).
	JoinedMessages = []Message{RequestHeaders, RequestBody, ResponseHeaders, ResponseBody, ResponseTrailers}
)

func admissionNeeds() Needs {
	return Needs{
		{Message: RequestHeaders, Why: "what is refused by its headers is refused before a body of unknown size comes"},
		{Message: RequestPieces, Why: "a body that is too large is refused as soon as it is"},
	}
}

func (g *Gateway) routerNeeds(r *Rule, p *Plan) Needs {
	var n Needs
	forward := slices.ContainsFunc(r.Shares, func(s Share) bool {
		return slices.ContainsFunc(s.Upstream.Targets, func(t *Target) bool { return len(t.Forward) > 0 })
	})
	c := p.Choice
	n.add(Need{Message: RequestHeaders}, g.NeedsKey, "keys are checked")
	n.add(Need{Message: RequestHeaders}, true, "path, method and size are checked before the body comes")
	n.add(Need{Message: RequestHeaders}, true, "the list of models is answered")
	n.add(Need{Message: RequestHeaders}, true, "each attempt starts from the headers that the client sent")
	n.add(Need{Message: RequestHeaders}, forward, "some targets get headers by forward_headers")
	n.add(Need{Message: RequestBody}, c.Rule, "the model chooses the rule")
	n.add(Need{Message: RequestBody}, c.Prefer, "the model chooses the targets that are asked first")
	n.add(Need{Message: RequestBody}, c.Listed, "the model chooses the target")
	n.add(Need{Message: RequestBody}, c.Prompt, "how the conversation begins chooses the target")
	n.add(Need{Message: RequestBody}, c.Schemas != nil, "the targets speak %s: what one has no word for goes to another", strings.Join(schemaNames(c.Schemas), " and "))
	for _, policy := range r.policies() {
		switch {
		case !policy.Phase.Input():
		case policy.Observe:
			n.add(Need{Message: RequestBody}, true, "the policy %s observes it", policy.Name)
		default:
			n.add(Need{Message: RequestBody}, true, "the policy %s is asked before anything goes out", policy.Name)
		}
	}
	n.add(Need{Message: RequestBody}, true, "only it says whether a stream is wanted")
	n.add(Need{Message: RequestBody}, true, "what is not strict JSON, or has too many parts, is refused")
	n.add(Need{Message: RequestBody}, true, "each attempt starts from the bytes that the client sent")
	return n
}

func schemaNames(targets []*Target) []string {
	var names []string
	for _, t := range targets {
		names = append(names, string(t.Schema))
	}
	slices.Sort(names)
	return names
}

// outputPolicies names the policies that are asked of answers: those that may change one, and those
// that only observe.
func (r *Rule) outputPolicies() (changing, watching string) {
	var change, watch []string
	for _, policy := range r.policies() {
		switch {
		case !policy.Phase.Output():
		case policy.Observe:
			watch = append(watch, policy.Name)
		default:
			change = append(change, policy.Name)
		}
	}
	return strings.Join(change, ", "), strings.Join(watch, ", ")
}

// saidInAnswers are the conditions that an answer can have though its status is 200.
var saidInAnswers = []string{OnRateLimit, OnServerError, OnCredential, OnModel}

func (g *Gateway) upstreamNeeds(r *Rule, u *Upstream, p *Plan) Needs {
	var n Needs
	some := func(has func(*Target) bool) bool { return slices.ContainsFunc(u.Targets, has) }
	schemas := strings.Join(u.Schemas(), " or ")
	secret := some(func(t *Target) bool { return t.AuthHeader != "" || len(t.Headers) > 0 })
	outcome := "told as one"
	switch {
	case p.Attempts.Most == 1:
	case p.Attempts.Hedge > 0:
		outcome = "kept back while another target may answer"
	case slices.ContainsFunc(saidInAnswers, u.AsksAnother):
		outcome = "retried"
	}

	n.add(Need{Message: RequestHeaders}, true, "a target gets no header but those that it may see")
	n.add(Need{Message: RequestHeaders}, some(func(t *Target) bool { return t.AuthHeader != "" }), "the target's credential goes in")
	n.add(Need{Message: RequestHeaders}, some(func(t *Target) bool { return len(t.ModelMap) > 0 || t.DefaultModel != "" }), "the target's name for the model goes in")
	n.add(Need{Message: RequestHeaders}, schemas != "", "translated to %s for clients of another schema", schemas)
	n.add(Need{Message: RequestHeaders}, some(func(t *Target) bool { return t.Answer != "" }), "a static target is answered for")

	n.add(Need{Message: ResponseHeaders}, !g.Stream.AtHeaders, "held until the answer is known to be one")
	n.add(Need{Message: ResponseHeaders}, g.Stream.AtHeaders, "a stream's go out at once (streaming.commit), a whole answer's are held until it is known to be one")
	changing, watching := r.outputPolicies()
	n.add(Need{Message: ResponseHeaders}, changing != "" && !g.Stream.AtHeaders, "held until output policies have let out what the answer begins with")
	n.add(Need{Message: ResponseHeaders}, true, "the client gets no header but those that it may see, and is told which target answered")

	n.add(Need{Message: ResponseBody, Until: UntilFirstToken}, !g.Stream.AtHeaders, "until the first token, so that an error in a 200 is %s", outcome)
	n.add(Need{Message: ResponseBody}, true, "a whole answer to its end, so that an error in a 200 is %s", outcome)
	n.add(Need{Message: ResponseBody}, schemas != "", "translated from %s for clients of another schema", schemas)
	n.add(Need{Message: ResponseBody}, changing != "", "output policies read and may change the answer: %s", changing)
	n.add(Need{Message: ResponseBody}, watching != "", "policies observe the answer: %s", watching)
	if p.Detaches {
		n.add(Need{Message: ResponseBody}, true, "a whole answer's usage is counted; a stream of the client's own schema is detached from at its first token (inspect: first-token)")
		n.add(Need{Message: ResponseTrailers}, true, "a condition of speaking at any time, where the sidecar stays; the client gets none")
		return n
	}
	n.add(Need{Message: ResponseBody}, secret, "credentials that a target quotes are taken out")
	n.add(Need{Message: ResponseBody}, true, "usage is counted")
	n.add(Need{Message: ResponseBody, Speaks: true}, true, "a stream that breaks off, or is silent for %s, ends in the client's words", g.Stream.InterChunk)
	n.add(Need{Message: ResponseBody, Speaks: true}, g.Stream.KeepAlive > 0, "a stream that is silent for %s gets a comment", g.Stream.KeepAlive)

	n.add(Need{Message: ResponseTrailers}, true, "a condition of speaking at any time; the client gets none")
	return n
}
