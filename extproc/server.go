// Package extproc is the data path: the two gRPC streams that Envoy opens for a request, and what
// joins them.
//
// The router stream (router.go) reads a request before a target is chosen, where the body has a say
// in that; else the first attempt does. An upstream stream (upstream.go) runs for every attempt at
// a target: it writes the request in the target's schema (asking.go) and reads the answer back
// (answer/). What policies (policy/) have to say of a request is asked before that (police.go).
// What all need to know of a request is its exchange (exchange.go). Everything derived from
// configuration is in a Runtime (compile.go), which an exchange pins: one request sees one
// configuration.
package extproc

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"millrace/envoy"
	"millrace/event"
	"millrace/extproc/policy"
	millracev1 "millrace/proto/millrace/v1"
)

// Options are what a Server needs of the process it is in.
type Options struct {
	Log    *slog.Logger
	Events *event.Recorder
	// Ready tells whether requests can be served; /health/ready says so.
	Ready func() Readiness
	// Cool is told of a target, by its identity, that has said that it will answer again after so
	// long. It must not wait.
	Cool func(target string, d time.Duration)
	// Succeeded and Failed are told what a request says about a target, by its identity, and why it
	// failed. A request may say so several times, once for each attempt. They must not wait.
	Succeeded func(target, request string)
	Failed    func(target, request, why string)
	// Recorded is told of every event; nil: nobody is. The event must not be changed, and it must
	// not wait.
	Recorded func(*millracev1.Event)
	// Policies is what policies need.
	Policies policy.Host
	// Version and Instance identify this process in /health.
	Version  string
	Instance string
}

// Server implements Envoy's ExternalProcessor and AccessLogService. Use sets what it serves; until
// then it refuses.
type Server struct {
	extprocv3.UnimplementedExternalProcessorServer
	options   Options
	started   time.Time
	runtime   atomic.Pointer[Runtime]
	previous  atomic.Pointer[Runtime] // what Envoy may still choose targets from
	exchanges *registry
	recent    recent
	memory    memory
	stopping  context.Context // done from Stop on
	stop      context.CancelFunc
}

// NewServer returns a server without a runtime.
func NewServer(o Options) *Server {
	s := &Server{options: o, started: time.Now()}
	s.exchanges = newRegistry(o.Events, s.ended)
	s.stopping, s.stop = context.WithCancel(context.Background())
	return s
}

// Use makes new requests see this runtime. Requests under way keep theirs. Calls must not overlap.
func (s *Server) Use(r *Runtime) {
	s.memory.bound(r.maxMemory, s.options.Log)
	s.previous.Store(s.runtime.Swap(r))
	s.recent.keep(r.targets)
}

// target finds a target that Envoy chose for an exchange, or for a request that has none. While a
// change is under way Envoy may be ahead of the exchange's runtime or one change behind it. An
// identity stands for one host in all of them, so no credential goes to another's.
func (s *Server) target(x *exchange, identity string) *target {
	for _, r := range s.runtimes(x) {
		if r != nil && r.targets[identity] != nil {
			return r.targets[identity]
		}
	}
	return nil
}

// runtimes are those that Envoy may have chosen from, that of an exchange first; nil is a request
// that has none. Some may be nil.
func (s *Server) runtimes(x *exchange) [3]*Runtime {
	all := [3]*Runtime{nil, s.runtime.Load(), s.previous.Load()}
	if x != nil {
		all[0] = x.runtime
	}
	return all
}

// rule finds the route of the rule that Envoy took for an exchange, or for a request that has none;
// nil: there is no such rule.
func (s *Server) rule(x *exchange, name string) *route {
	for _, r := range s.runtimes(x) {
		if r != nil && r.rules[name] != nil {
			return r.rules[name]
		}
	}
	return nil
}

// Register adds both services to g.
func (s *Server) Register(g *grpc.Server) {
	extprocv3.RegisterExternalProcessorServer(g, s)
	s.registerAccessLog(g)
}

// Process serves one stream of either kind; Envoy says which in the stream's metadata.
func (s *Server) Process(stream extprocv3.ExternalProcessor_ProcessServer) error {
	md, _ := metadata.FromIncomingContext(stream.Context())
	switch kind := first(md.Get(envoy.StreamKind)); kind {
	case envoy.StreamAdmission:
		return s.admit(stream)
	case envoy.StreamRouter:
		return s.route(stream)
	case envoy.StreamUpstream:
		return s.attempt(stream)
	default:
		return status.Errorf(codes.InvalidArgument, "stream metadata %s is %q", envoy.StreamKind, kind)
	}
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

// Sweep is to be called now and then: it ends the exchanges whose end Envoy never told, because it
// died.
func (s *Server) Sweep() { s.exchanges.sweep(time.Now().Add(-lostAfter)) }

// lostAfter is longer than any request lives between two attempts.
const lostAfter = 15 * time.Minute

// Busy tells whether attempts at targets are under way.
func (s *Server) Busy() bool { return s.exchanges.busy() }

// Unsettled tells whether there are requests of whose end Envoy has not told yet.
func (s *Server) Unsettled() bool { return s.exchanges.unsettled() }

// Close records the requests of whose end Envoy will not tell any more. No stream may be open.
func (s *Server) Close() { s.exchanges.sweep(time.Now()) }
