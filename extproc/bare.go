package extproc

import (
	"fmt"
	"strings"

	datav3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"millrace/config"
	"millrace/envoy"
	"millrace/extproc/llm"
	millracev1 "millrace/proto/millrace/v1"
)

// Of a request that Envoy has served by itself (config.Plan.Bare) its account is all there is.

// describeBare says what that account tells of the request's rule and of its last attempt. Which
// targets the attempts before were made at Envoy does not tell. routeName is that of the rule.
func (s *Server) describeBare(e *millracev1.Event, entry *datav3.HTTPAccessLogEntry, routeName string) {
	common := entry.GetCommonProperties()
	if path := entry.GetRequest().GetRequestHeaders()[envoy.HeaderPath]; path != "" {
		e.Path, _, _ = strings.Cut(path, "?")
	}
	if rule := s.rule(nil, routeName); rule != nil {
		e.Schema = string(rule.bareSchema)
	}
	last := &millracev1.Attempt{Error: noConnection, Condition: config.OnConnectFailure}
	identity := chosen(entry)
	if t := s.target(nil, identity); t != nil {
		last = &millracev1.Attempt{Target: t.config.ID, Upstream: t.config.Upstream(), Provider: t.config.Provider, Schema: string(t.config.Schema), Status: e.Status}
		defer func() {
			b := bill{table: s.runtime.Load().prices}
			b.add(last, t)
			e.Cost = b.total()
		}()
	}
	for n := uint32(1); n < common.GetUpstreamRequestAttemptCount(); n++ {
		e.Attempts = append(e.Attempts, &millracev1.Attempt{Error: "failed; Envoy, which asked the targets by itself, does not tell more"})
	}
	if common.GetUpstreamRequestAttemptCount() == 0 {
		return
	}
	e.Attempts = append(e.Attempts, last)
	if last.Target != "" {
		last.Usage = e.Usage
	}
	if e.Details != viaUpstream || last.Target == "" {
		return
	}
	e.Target, e.Provider = last.Target, last.Provider
	if e.Status >= 400 {
		last.Error = fmt.Sprintf("status %d", e.Status)
		e.Error = last.Error
	}
	if failure(int(e.Status)) {
		s.failed(identity, e.Id, last.Error)
	} else {
		s.succeeded(identity, e.Id)
	}
}

// addUsage adds the usage that Envoy has found a stream to tell.
func (s *Server) addUsage(e *millracev1.Event, entry *datav3.HTTPAccessLogEntry) {
	common := entry.GetCommonProperties()
	found := common.GetMetadata().GetFilterMetadata()[envoy.MetadataUsage].GetFields()
	if len(found) == 0 {
		return
	}
	if t := s.target(nil, chosen(entry)); t != nil {
		if told := t.usageTold(found); told != nil && *told != (llm.Usage{}) {
			e.Usage = usageMessage(*told, e.Details != viaUpstream) // else it was not told to the end
		}
	}
}

// chosen is the target, by its identity, that Envoy chose last for a request.
func chosen(entry *datav3.HTTPAccessLogEntry) string {
	return entry.GetCommonProperties().GetUpstreamRemoteAddress().GetEnvoyInternalAddress().GetEndpointId()
}

// usageTold is the usage that Envoy found a stream of the target's to tell, nil for none. It is
// read as the stream itself would be.
func (t *target) usageTold(found map[string]*structpb.Value) *llm.Usage {
	if t.codec.Target == nil { // it asks nobody
		return nil
	}
	call, err := t.codec.Target.PatchRequest(llm.Head{}, []byte("{}"), t.options("any"))
	if err != nil {
		return nil
	}
	stream := call.Answer.Stream()
	var usage *llm.Usage
	for _, place := range t.codec.Schema.Usage {
		told := found[place.Key()].GetStringValue()
		if told == "" {
			continue
		}
		frames, _ := stream.Push(fmt.Appendf(nil, "data: "+place.Event+"\n\n", told))
		for _, f := range frames {
			for _, e := range f.Events {
				if e.Usage != nil {
					u := *e.Usage
					usage = &u
				}
			}
		}
	}
	return usage
}

// viaUpstream is Envoy's word for an answer that came from the target.
const viaUpstream = "via_upstream"
