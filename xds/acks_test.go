package xds

import (
	"fmt"
	"log/slog"
	"maps"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
)

// dialogue is what passes between the server and Envoys, without either.
type dialogue struct {
	*acks
	t     *testing.T
	nonce int
}

// sends has these versions of resources of a type sent on a stream; it returns the nonce.
func (d *dialogue) sends(stream int64, kind resource.Type, sent map[string]string) string {
	d.nonce++
	r := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: kind, Nonce: fmt.Sprint(d.nonce)}
	for name, version := range sent {
		r.Resources = append(r.Resources, &discoveryv3.Resource{Name: name, Version: version})
	}
	d.response(stream, nil, r)
	return r.Nonce
}

// takes has an Envoy acknowledge all that the offer holds, on a stream.
func (d *dialogue) takes(stream int64, s *Snapshot) {
	d.t.Helper()
	for _, kind := range served {
		d.acks.mu.Lock()
		has := maps.Clone(d.node[kind])
		d.acks.mu.Unlock()
		var gone []string
		for name := range has {
			if _, ok := s.cache.GetVersionMap(kind)[name]; !ok {
				gone = append(gone, name)
			}
		}
		nonce := d.sends(stream, kind, s.cache.GetVersionMap(kind))
		d.acks.mu.Lock()
		d.sent[nonce].RemovedResources = gone
		d.acks.mu.Unlock()
		d.says(stream, kind, nonce, "", nil)
	}
}

// says is one message of an Envoy's. It returns whether the stream has to end.
func (d *dialogue) says(stream int64, kind resource.Type, nonce, refusal string, has map[string]string) (ended bool) {
	r := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: kind, ResponseNonce: nonce, InitialResourceVersions: has}
	if stream > d.newest {
		r.Node = &corev3.Node{Id: fmt.Sprintf("envoy-%d", stream)}
	}
	if refusal != "" {
		r.ErrorDetail = &rpcstatus.Status{Message: refusal}
	}
	return d.request(stream, r) != nil
}

// connects begins a stream with what an Envoy has; nil is nothing.
func (d *dialogue) connects(stream int64, has *Snapshot) {
	for _, kind := range served {
		var versions map[string]string
		if has != nil {
			versions = has.cache.GetVersionMap(kind)
		}
		d.says(stream, kind, "", "", versions)
	}
}

func (d *dialogue) wants(phase Phase, reason string) {
	d.t.Helper()
	if s, _ := d.status(); s.Phase != phase || s.Reason != reason {
		d.t.Errorf("%s %q, want %s %q", s.Phase, s.Reason, phase, reason)
	}
}

// TestAcks: what is made of what Envoys say, in every order in which they may say it.
func TestAcks(t *testing.T) {
	const document = "upstreams: [{name: a, algorithm: weighted-round-robin, targets: [{provider: openai, weight: %d}]}]"
	one, two := build(t, fmt.Sprintf(document, 1)), build(t, fmt.Sprintf(document, 2)) // they differ in their endpoints alone
	more := build(t, "upstreams: [{name: a, algorithm: weighted-round-robin, targets: [{provider: openai, weight: 1}]}, {name: b, targets: [{id: t, host: b.test}]}]")
	endpoints, clusters := served[1], served[0]
	for name, c := range map[string]func(d *dialogue){
		"nobody is there": func(d *dialogue) { d.offer(one); d.wants(Offered, "") },
		"all is taken": func(d *dialogue) {
			d.offer(one)
			d.connects(1, nil)
			d.wants(Offered, "")
			d.takes(1, one)
			d.wants(Applied, "")
		},
		"an Envoy that has all already": func(d *dialogue) {
			d.offer(one)
			d.connects(1, one)
			d.wants(Applied, "")
		},
		"an Envoy that has another offer": func(d *dialogue) {
			d.offer(one)
			d.connects(1, two)
			d.wants(Offered, "")
		},
		"a refusal": func(d *dialogue) {
			d.offer(one)
			d.connects(1, nil)
			nonce := d.sends(1, endpoints, one.cache.GetVersionMap(endpoints))
			if d.says(1, endpoints, nonce, "no", nil) {
				d.t.Error("the stream ends")
			}
			d.wants(Rejected, "no")
		},
		"a late refusal of an earlier offer": func(d *dialogue) {
			d.offer(one)
			d.connects(1, nil)
			d.takes(1, one)
			d.offer(two)
			nonce := d.sends(1, endpoints, two.cache.GetVersionMap(endpoints))
			d.offer(one)
			if d.says(1, endpoints, nonce, "no", nil) {
				d.t.Error("the stream ends though all is sent again in any case")
			}
			d.wants(Offered, "")
			d.takes(1, one)
			d.wants(Applied, "")
		},
		"a late refusal of more than is offered now": func(d *dialogue) {
			d.offer(more)
			d.connects(1, nil)
			nonce := d.sends(1, clusters, more.cache.GetVersionMap(clusters))
			d.offer(one)
			if !d.says(1, clusters, nonce, "no", nil) {
				d.t.Error("the stream goes on, and what both offers have is never sent again")
			}
			d.wants(Offered, "")
		},
		"what was refused is sent again": func(d *dialogue) {
			d.offer(more)
			d.connects(1, nil)
			nonce := d.sends(1, clusters, more.cache.GetVersionMap(clusters))
			d.says(1, clusters, nonce, "no", nil)
			d.wants(Rejected, "no")
			send := d.offer(one).cache.GetVersionMap(clusters)
			for name, version := range one.cache.GetVersionMap(clusters) {
				if send[name] == version {
					d.t.Errorf("%s is not sent again", name)
				}
			}
			again := d.replace(one).cache.GetVersionMap(clusters)
			if !maps.Equal(again, send) {
				d.t.Errorf("another form of the same sends all of it again: %v", again)
			}
			d.takes(1, one) // Envoy is told the versions as they are
			d.wants(Applied, "")
		},
		"a refusal is over with the stream": func(d *dialogue) {
			d.offer(one)
			d.connects(1, nil)
			d.says(1, endpoints, d.sends(1, endpoints, one.cache.GetVersionMap(endpoints)), "no", nil)
			d.closed(1, nil)
			d.connects(2, nil)
			d.wants(Offered, "")
			d.takes(2, one)
			d.wants(Applied, "")
		},
		"a queued message of an older stream": func(d *dialogue) {
			d.offer(one)
			d.connects(1, nil)
			d.connects(2, one)
			d.wants(Applied, "")
			d.connects(1, nil) // what was on its way
			d.wants(Applied, "")
			if s, _ := d.status(); s.Node != "envoy-2" {
				d.t.Errorf("%s is taken for the one beside us", s.Node)
			}
			d.closed(1, nil)
			d.wants(Applied, "")
		},
		"an older stream that outlives a newer one": func(d *dialogue) {
			d.offer(one)
			d.connects(1, one)
			d.connects(2, nil)
			d.closed(2, nil)
			if !d.says(1, clusters, "", "", nil) {
				d.t.Error("it goes on, and what its Envoy has is not known")
			}
			d.wants(Offered, "")
			d.connects(3, one)
			d.wants(Applied, "")
		},
		"it is asked again for what it has": func(d *dialogue) {
			d.offer(one)
			d.connects(1, one)
			if err := d.request(1, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: served[2], ResourceNamesSubscribe: []string{"ingress"}}); err == nil {
				d.t.Error("the stream goes on")
			}
		},
		"a target cools in between": func(d *dialogue) {
			d.offer(one)
			d.connects(1, one)
			d.replace(two)
			d.wants(Applied, "")
			d.offer(more)
			d.wants(Offered, "")
			d.replace(more)
			d.wants(Offered, "")
			d.says(1, clusters, d.sends(1, clusters, more.cache.GetVersionMap(clusters)), "no", nil)
			d.wants(Rejected, "no")
			d.replace(more)
			d.wants(Rejected, "no")
		},
		"Envoy is gone and comes back": func(d *dialogue) {
			d.offer(one)
			d.connects(1, one)
			d.closed(1, nil)
			d.wants(Offered, "")
			d.offer(two)
			d.connects(2, one)
			d.wants(Offered, "")
			d.takes(2, two)
			d.wants(Applied, "")
		},
	} {
		t.Run(name, func(t *testing.T) { c(&dialogue{acks: newAcks(slog.New(slog.DiscardHandler)), t: t}) })
	}
}
