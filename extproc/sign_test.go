package extproc

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"millrace/envoy"
	"millrace/extproc/llm"
)

// signing signs as SigV4 does: over the method, the path, all headers and the host, and the hash of
// the body. It has a token of its own.
type signing struct{ fails bool }

const (
	signingKey   = "wJalrXUtnFEMI-K7MDENG"
	sessionToken = "FwoGZXIvYXdzEBYaDHqa0AP1"
)

func (s signing) sign(r *outgoing) ([]string, error) {
	if s.fails {
		return nil, errors.New("no token")
	}
	r.header["x-amz-security-token"] = sessionToken
	r.header["authorization"] = signature(r.method, r.path, r.host, r.header, r.body)
	return []string{sessionToken}, nil
}

func signature(method, path, host string, header map[string]string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(signingKey))
	for _, line := range []string{method, path, host} {
		mac.Write([]byte(line + "\n"))
	}
	for _, name := range slices.Sorted(maps.Keys(header)) {
		mac.Write([]byte(name + ":" + header[name] + "\n"))
	}
	sum := sha256.Sum256(body)
	mac.Write(sum[:])
	return "AWS4-HMAC-SHA256 Signature=" + hex.EncodeToString(mac.Sum(nil))
}

// sent is a request as the target gets it: Envoy has carried out what the sidecar asks for.
func sent(reply *extprocv3.ProcessingResponse, from *extprocv3.ProcessingRequest) (header map[string]string, body []byte) {
	header = map[string]string{}
	for _, h := range headersOf(from.GetRequestHeaders().Headers) {
		header[h.Key] = value(h)
	}
	response := reply.GetRequestHeaders().GetResponse()
	for _, name := range response.GetHeaderMutation().GetRemoveHeaders() {
		delete(header, name)
	}
	for _, h := range response.GetHeaderMutation().GetSetHeaders() {
		header[h.Header.Key] = string(h.Header.RawValue)
	}
	for _, name := range []string{envoy.HeaderCluster, envoy.HeaderScheme} { // no target sees them
		delete(header, name)
	}
	return header, response.GetBodyMutation().GetBody()
}

// TestSigner: what signs a request sees it as the target will: nothing is changed, added or taken
// away afterwards. What it sends does not come back.
func TestSigner(t *testing.T) {
	for _, to := range []string{"same", "other"} {
		p := newPeer(t)
		p.server.runtime.Load().targets[p.targets[to]].signer = signing{}
		asked := upstreamHeaders(callID, p.targets[to])
		header, body := sent(p.begun(t, apps[0], apps[0].stream, to), asked)
		got, path, host, method := header["authorization"], header[":path"], header[":authority"], header[":method"]
		for _, name := range []string{"authorization", ":path", ":authority", ":method"} {
			delete(header, name)
		}
		if want := signature(method, path, host, header, body); got != want || len(body) == 0 {
			t.Errorf("%s: signed was something else than %s %s %s %v %s", to, method, host, path, header, body)
		}
		c := p.call(t, apps[0], apps[0].whole, to).head(":status= 403", "x-amzn-requestid= r").
			ends(`{"error":{"type":"permission_error","message":"bad token ` + sessionToken + `"},"type":"error"}`).all()
		if said := p.server.Recent(p.targets[to]); strings.Contains(c.body, sessionToken) || len(said) == 0 ||
			strings.Contains(said[0].Error, sessionToken) || !strings.Contains(said[0].Error, "bad token") {
			t.Errorf("%s: the token is in %s or %v", to, c.body, said)
		}
	}
}

// TestSignerFails: a target that cannot be given its credential is at fault, and another one is
// asked.
func TestSignerFails(t *testing.T) {
	p := newPeer(t)
	p.server.runtime.Load().targets[p.targets["same"]].signer = signing{fails: true}
	failed := 0
	p.server.options.Failed = func(string, string, string) { failed++ }
	now := p.begun(t, apps[0], apps[0].whole, "same").GetImmediateResponse()
	retried := slices.ContainsFunc(now.GetHeaders().GetSetHeaders(), func(h *corev3.HeaderValueOption) bool { return h.Header.Key == envoy.HeaderRetry })
	if now.GetStatus().GetCode() != 503 || !retried {
		t.Errorf("%v", now)
	}
	if e := p.server.exchanges.get(callID).before; e == nil || e.told.Type != llm.ErrUnavailable {
		t.Errorf("the exchange knows of %+v", e)
	}
	if said := p.server.Recent(p.targets["same"]); len(said) != 1 || failed != 1 {
		t.Errorf("%d failures, %v", failed, said)
	}
}
