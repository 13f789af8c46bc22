package config

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	millracev1 "millrace/proto/millrace/v1"
)

// PolicyKinds are the kinds of policies that this version has; extproc/policy has them.
var PolicyKinds = []string{"audit-logger"}

// Policy is one of a gateway's chain.
type Policy struct {
	Name string // what the chain calls it
	Kind string
	// Allows: a request goes out though the policy has failed (on_error: allow).
	Allows bool
	Params map[string]any // of its kind, as JSON has them
}

// Path is where the document says something of the policy.
func (p *Policy) Path() string { return "policies.policy." + p.Name }

// What all policies have.
const (
	policyKind    = "kind"
	policyOnError = "on_error"
)

const (
	onErrorBlock = "block"
	onErrorAllow = "allow"
)

// maxPolicyTimeout is shorter than Envoy waits for the sidecar.
const maxPolicyTimeout = 8 * time.Second

// policiesOn tells whether any policy is to be carried out.
func policiesOn(doc *millracev1.Document) bool {
	p := doc.Pack
	return (p == nil || p.Enabled == nil || p.GetEnabled()) && len(doc.GetPolicies().GetChain()) > 0
}

// resolvePolicies makes the chain of a document.
func resolvePolicies(doc *millracev1.Document) []Policy {
	if !policiesOn(doc) {
		return nil
	}
	var chain []Policy
	for _, name := range doc.Policies.Chain {
		p := Policy{Name: name, Params: doc.Policies.Policy[name].AsMap()}
		kind, _ := p.Params[policyKind].(string)
		p.Kind = cmp.Or(kind, name)
		p.Allows = p.Params[policyOnError] == onErrorAllow
		delete(p.Params, policyKind)
		delete(p.Params, policyOnError)
		chain = append(chain, p)
	}
	return chain
}

// policies checks what all policies have. What their kinds have those check.
func (v *validation) policies(doc *millracev1.Document) {
	chain := doc.GetPolicies().GetChain()
	for i, name := range chain {
		if i != slices.Index(chain, name) {
			v.errorf(fmt.Sprintf("policies.chain[%d]", i), "policy %q is in the chain already", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(doc.GetPolicies().GetPolicy())) {
		params := doc.Policies.Policy[name].AsMap()
		path := "policies.policy." + name
		if kind, given := params[policyKind]; given {
			if s, _ := kind.(string); s == "" {
				v.errorf(path+"."+policyKind, "want the name of a kind: %s", strings.Join(PolicyKinds, ", "))
			}
		}
		if on, given := params[policyOnError]; given && on != onErrorBlock && on != onErrorAllow {
			v.errorf(path+"."+policyOnError, "want %s or %s", onErrorBlock, onErrorAllow)
		}
	}
	if t := doc.Gateway.GetTimeouts().GetPolicyTimeout(); policiesOn(doc) && t.AsDuration() > maxPolicyTimeout {
		v.errorf("gateway.timeouts.policy_timeout", "want at most %s: Envoy waits no longer for the sidecar", maxPolicyTimeout)
	}
}

// policiesNotYet refuses the kinds that this version does not have.
func (v *validation) policiesNotYet(doc *millracev1.Document) {
	for i, p := range resolvePolicies(doc) {
		if !slices.Contains(PolicyKinds, p.Kind) {
			v.errorf(fmt.Sprintf("policies.chain[%d]", i), "the policy %q is not enforced by this version, which has %s; pack.enabled: false switches all policies off",
				p.Kind, strings.Join(PolicyKinds, ", "))
		}
	}
}

// idlePolicies names what is written of policies that are not carried out.
func (v *validation) idlePolicies(doc *millracev1.Document) {
	for _, name := range slices.Sorted(maps.Keys(doc.GetPolicies().GetPolicy())) {
		if !slices.Contains(doc.Policies.Chain, name) {
			v.errorf("policies.policy."+name, "has no effect: policies.chain does not name it")
		}
	}
}
