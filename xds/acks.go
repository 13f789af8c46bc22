package xds

import (
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

// acks follows what Envoy has acknowledged, resource by resource: a type in which nothing changed
// is not sent again, so its version alone would not tell. Everything is guarded by mu.
type acks struct {
	log *slog.Logger

	mu      sync.Mutex
	changed chan struct{} // closed and replaced whenever the status may have changed
	offered *Snapshot
	reason  string // why the offer was rejected; "" while it is not
	settled bool   // the node had all of the offer; another form of it is on the way

	peer    *corev3.Node
	newest  int64                                          // the highest id of an ADS stream so far; ids rise
	stream  int64                                          // the open ADS stream: newest, or 0 for none
	node    versions                                       // as acknowledged
	refused map[resource.Type]map[string]refusals          // on this stream
	sent    map[string]*discoveryv3.DeltaDiscoveryResponse // by nonce, not yet answered
}

// versions are those of resources, by type and name.
type versions map[resource.Type]map[string]string

func (v versions) set(kind resource.Type, name, version string) {
	if v[kind] == nil {
		v[kind] = map[string]string{}
	}
	v[kind][name] = version
}

func newAcks(log *slog.Logger) *acks {
	return &acks{log: log, changed: make(chan struct{})}
}

// offer begins to follow an offer, and returns what has to be sent for it.
func (a *acks) offer(s *Snapshot) *Snapshot {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.offered, a.reason, a.settled = s, "", false
	a.notify()
	return s.again(a.refused)
}

// replace goes on with another form of the same offer. What was refused stays refused, what was
// applied stays applied.
func (a *acks) replace(s *Snapshot) *Snapshot {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.settled = a.current().Phase == Applied
	a.offered = s
	a.notify()
	return s.again(a.refused)
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

// request takes a subscription, an acknowledgement or a refusal. An error ends the stream. An Envoy
// that asks again for what it has been given has lost it, as it loses the routes of a listener that
// it could not open. The server would not send that again: it does on a new stream, where Envoy
// says first what it has. So does one whose stream was taken for dead, because there was a newer
// one.
func (a *acks) request(stream int64, r *discoveryv3.DeltaDiscoveryRequest) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case stream > a.newest:
		a.begin(stream, r.Node)
	case stream != a.stream && a.stream != 0: // left over from before the present stream
		return nil
	case stream != a.stream:
		return grpcstatus.Error(codes.Aborted, "there was a newer stream: begin a new one")
	}
	for _, name := range r.ResourceNamesSubscribe {
		if _, has := a.node[r.TypeUrl][name]; has && name != "*" {
			return grpcstatus.Errorf(codes.Aborted, "%s %q is asked for again", r.TypeUrl, name)
		}
	}
	for name, version := range r.InitialResourceVersions {
		a.node.set(r.TypeUrl, name, version)
	}
	for _, name := range r.ResourceNamesUnsubscribe {
		delete(a.node[r.TypeUrl], name)
	}
	sent := a.sent[r.ResponseNonce]
	delete(a.sent, r.ResponseNonce)
	for _, name := range sent.GetRemovedResources() { // with a refusal too, or so it seems to us
		delete(a.node[r.TypeUrl], name)
	}
	defer a.notify()
	if r.ErrorDetail != nil {
		return a.refuse(r.TypeUrl, sent, r.ErrorDetail.Message)
	}
	for _, res := range sent.GetResources() {
		a.node.set(r.TypeUrl, res.Name, res.Version)
	}
	return nil
}

// begin follows a new stream, on which Envoy says first what it has. What the one before refused
// this one may take. mu is held.
func (a *acks) begin(stream int64, peer *corev3.Node) {
	a.newest, a.stream, a.peer = stream, stream, peer
	a.reason, a.settled = "", false
	a.node, a.refused = versions{}, map[resource.Type]map[string]refusals{}
	a.sent = map[string]*discoveryv3.DeltaDiscoveryResponse{}
}

// refuse notes a refusal of all that was sent; Envoy may have taken some of it. A late one, of an
// earlier offer, says nothing about the present one, but Envoy may now lack what both have. The
// error then ends the stream. mu is held.
func (a *acks) refuse(kind resource.Type, sent *discoveryv3.DeltaDiscoveryResponse, reason string) error {
	a.log.Error("envoy rejected resources", "type", kind, "reason", reason)
	for _, res := range sent.GetResources() {
		delete(a.node[kind], res.Name)
		if a.refused[kind] == nil {
			a.refused[kind] = map[string]refusals{}
		}
		a.refused[kind][res.Name] = a.refused[kind][res.Name].and(res.Version)
	}
	switch offered := a.stillOffered(sent); {
	case offered == 0:
	case offered < len(sent.Resources):
		return grpcstatus.Errorf(codes.Aborted, "some of %s was refused for the sake of what is no longer offered", kind)
	default:
		a.reason = reason
	}
	return nil
}

func (a *acks) closed(stream int64, _ *corev3.Node) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if stream == a.stream {
		a.stream, a.peer, a.node, a.refused, a.sent, a.settled = 0, nil, nil, nil, nil, false
		a.notify()
	}
}

func (a *acks) status() (Status, <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.current(), a.changed
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

// stillOffered counts the resources of the response that are in the present offer as they were
// sent. mu is held.
func (a *acks) stillOffered(sent *discoveryv3.DeltaDiscoveryResponse) (n int) {
	if a.offered == nil {
		return 0
	}
	offered := a.offered.cache.GetVersionMap(sent.GetTypeUrl())
	for _, res := range sent.GetResources() {
		if v, ok := offered[res.Name]; ok && v == res.Version {
			n++
		}
	}
	return n
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
