package xds

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
)

// Phase is how far an offered configuration has come.
type Phase string

// Envoy has said nothing yet, has taken every resource, or has refused one.
const (
	Offered  Phase = "offered"
	Applied  Phase = "applied"
	Rejected Phase = "rejected"
)

// Status is what Envoy made of the latest offer.
type Status struct {
	Version   string
	Phase     Phase
	Reason    string // Envoy's own words when it rejected
	Connected bool   // an ADS stream is open

	Node         string // who Envoy says it is, and what version; "" while not connected
	EnvoyVersion string
}

// served are the types whose resources must all be taken before a configuration counts as applied.
var served = []resource.Type{resource.ClusterType, resource.EndpointType, resource.ListenerType, resource.RouteType, resource.SecretType, resource.RuntimeType}

// acks follows what Envoy has acknowledged, resource by resource: a type in which nothing changed is not sent again, so its
// version alone would not tell. Everything is guarded by mu.
type acks struct {
	log *slog.Logger

	mu      sync.Mutex
	changed chan struct{} // closed and replaced whenever the status may have changed
	offered *Snapshot
	reason  string // why the offer was rejected; "" while it is not
	settled bool   // the node had all of the offer; another form of it is on the way

	peer   *corev3.Node
	stream int64                                          // the open ADS stream, 0 for none
	node   map[resource.Type]map[string]string            // resource → version, as acknowledged
	sent   map[string]*discoveryv3.DeltaDiscoveryResponse // by nonce, not yet answered
}

func newAcks(log *slog.Logger) *acks {
	return &acks{log: log, changed: make(chan struct{})}
}

func (a *acks) offer(s *Snapshot) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.offered, a.reason, a.settled = s, "", false
	a.notify()
}

// replace goes on with another form of the same offer. What was refused stays refused, what was applied stays applied.
func (a *acks) replace(s *Snapshot) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.settled = a.current().Phase == Applied
	a.offered = s
	a.notify()
}

// notify wakes whoever waits. mu is held.
func (a *acks) notify() {
	close(a.changed)
	a.changed = make(chan struct{})
}

// response notes what is about to be sent.
func (a *acks) response(stream int64, _ *discoveryv3.DeltaDiscoveryRequest, r *discoveryv3.DeltaDiscoveryResponse) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if stream == a.stream {
		a.sent[r.Nonce] = r
	}
	a.log.Debug("sent", "type", r.TypeUrl, "resources", len(r.Resources), "removed", len(r.RemovedResources))
}

// request takes a subscription, an acknowledgement or a refusal. An Envoy that asks again for what it has been given has lost it, as it
// loses the routes of a listener that it could not open. The server would not send that again: it does on a new stream, where
// Envoy says first what it has.
func (a *acks) request(stream int64, r *discoveryv3.DeltaDiscoveryRequest) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if stream != a.stream { // an Envoy that (re)connects says first what it has
		a.stream, a.settled = stream, false
		a.node = map[resource.Type]map[string]string{}
		a.sent = map[string]*discoveryv3.DeltaDiscoveryResponse{}
		a.peer = r.Node
	}
	if a.node[r.TypeUrl] == nil {
		a.node[r.TypeUrl] = map[string]string{}
	}
	for _, name := range r.ResourceNamesSubscribe {
		if _, has := a.node[r.TypeUrl][name]; has && name != "*" {
			return grpcstatus.Errorf(codes.Aborted, "%s %q is asked for again", r.TypeUrl, name)
		}
	}
	maps.Copy(a.node[r.TypeUrl], r.InitialResourceVersions)
	for _, name := range r.ResourceNamesUnsubscribe {
		delete(a.node[r.TypeUrl], name)
	}
	sent := a.sent[r.ResponseNonce]
	delete(a.sent, r.ResponseNonce)
	switch {
	case r.ErrorDetail != nil:
		a.log.Error("envoy rejected resources", "type", r.TypeUrl, "reason", r.ErrorDetail.Message)
		if a.offers(sent) {
			a.reason = r.ErrorDetail.Message
		}
		for _, res := range sent.GetResources() { // it may have taken some of them
			delete(a.node[r.TypeUrl], res.Name)
		}
	case sent != nil:
		for _, res := range sent.Resources {
			a.node[r.TypeUrl][res.Name] = res.Version
		}
		for _, name := range sent.RemovedResources {
			delete(a.node[r.TypeUrl], name)
		}
	}
	a.notify()
	return nil
}

func (a *acks) closed(stream int64, _ *corev3.Node) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if stream == a.stream {
		a.stream, a.peer, a.node, a.sent, a.settled = 0, nil, nil, nil, false
		a.notify()
	}
}

func (a *acks) status() Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.current()
}

// current is the status. mu is held.
func (a *acks) current() Status {
	s := Status{Phase: Offered, Connected: a.stream != 0, Node: a.peer.GetId(), EnvoyVersion: envoyVersion(a.peer)}
	if a.offered == nil {
		return s
	}
	s.Version = a.offered.Version
	switch {
	case a.reason != "":
		s.Phase, s.Reason = Rejected, a.reason
	case s.Connected && (a.settled || a.hasAll()):
		s.Phase = Applied
	}
	return s
}

// offers tells whether the response holds something of the present offer: a late refusal of an earlier one says nothing about
// it. mu is held.
func (a *acks) offers(sent *discoveryv3.DeltaDiscoveryResponse) bool {
	if a.offered == nil {
		return false
	}
	versions := a.offered.cache.GetVersionMap(sent.GetTypeUrl())
	for _, res := range sent.GetResources() {
		if v, ok := versions[res.Name]; ok && v == res.Version {
			return true
		}
	}
	return false
}

func envoyVersion(n *corev3.Node) string {
	v := n.GetUserAgentBuildVersion().GetVersion()
	if v == nil {
		return ""
	}
	return fmt.Sprintf("%d.%d.%d", v.GetMajorNumber(), v.GetMinorNumber(), v.GetPatch())
}

// hasAll tells whether the node has every resource of the offer, in its version. mu is held.
func (a *acks) hasAll() bool {
	for _, t := range served {
		if !maps.Equal(a.offered.cache.GetVersionMap(t), a.node[t]) {
			return false
		}
	}
	return true
}

func (a *acks) wait(ctx context.Context, version string) Status {
	for {
		a.mu.Lock()
		s, changed := a.current(), a.changed
		a.mu.Unlock()
		if s.Version != version || s.Phase != Offered {
			return s
		}
		select {
		case <-ctx.Done():
			return s
		case <-changed:
		}
	}
}
