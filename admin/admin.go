// Package admin is the operator's API: REST with the resources of the configuration, and the same
// as gRPC. Both are the service of admin.proto; the REST paths and the OpenAPI document come from
// its annotations, so they cannot tell different things.
//
// A write is an edit of the stored state, carried out by the control plane: refused whole or
// applied whole, and the answer says what Envoy said. Secrets go in and never come out. What the
// configuration file owns is shown and cannot be changed.
package admin

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"google.golang.org/grpc"

	"millrace/control"
	millracev1 "millrace/proto/millrace/v1"
)

// Plane carries out changes and tells where the gateway stands.
type Plane interface {
	// Snapshot returns the latest stored state and the file's effective document, nil without one.
	// Neither must be changed.
	Snapshot(ctx context.Context) (revision uint64, state *millracev1.State, file *millracev1.Document, err error)
	Change(ctx context.Context, c control.Change) (control.Result, error)
	Status() control.Status
	Versions(ctx context.Context) ([]control.VersionInfo, error)
	// At returns the state of a version, or an error that is control.ErrNotFound.
	At(ctx context.Context, revision uint64) (*millracev1.State, error)
}

// Clusters asks Envoy how the targets are.
type Clusters interface {
	Clusters(ctx context.Context) ([]TargetHealth, error)
}

// TargetHealth is one target as Envoy and the sidecar see it. The counters are Envoy's since it
// started.
type TargetHealth struct {
	Name           string // as in config.Target: "gateway/upstream/target"
	Healthy        bool
	EjectedUntil   time.Time // zero when it is not ejected
	EjectedBecause string
	Weight         uint32
	Priority       uint32
	ActiveRequests uint32
	Connections    uint32 // open ones to its provider
	Success        uint64
	Error          uint64
	CoolingUntil   time.Time             // zero when it is asked as usual
	Recent         []*millracev1.Outcome // the latest first
	Trouble        string                // what an operator has to see to; "" when there is nothing
}

// Options are what the API needs.
type Options struct {
	Plane    Plane
	Clusters Clusters // nil: nothing can be said about health
	// Token is what every request must bring. It is called for each, so that a new token holds at
	// once. While it returns "", requests must name a loopback address or one of Hosts as their
	// host: then no page that a browser shows can reach the API, whatever its name resolves to.
	Token   func() string
	Hosts   []string
	Release string // of millrace, for the status
	// Events returns where events are kept, nil while they are not. It may itself be nil.
	Events func() Events
	Log    *slog.Logger
}

// Server is the API. Its methods may be called at the same time.
type Server struct {
	options Options
	service *service
	handler http.Handler
	wrong   *wrongTokens
}

// New returns the API, ready to serve.
func New(o Options) *Server {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Token == nil {
		o.Token = func() string { return "" }
	}
	s := &Server{
		options: o,
		service: &service{plane: o.Plane, clusters: o.Clusters, release: o.Release, log: o.Log},
		wrong:   newWrongTokens(o.Log),
	}
	s.handler = s.guard(newREST(s.service, o), o.Token)
	return s
}

// guard lets to next who brings one of the tokens; while there are none, who names a local host.
func (s *Server) guard(next http.Handler, tokens ...func() string) http.Handler {
	return &guard{
		tokens: func() []string {
			var now []string
			for _, token := range tokens {
				now = append(now, token())
			}
			return now
		},
		open: func(host string) error {
			if isLocalHost(host, s.options.Hosts) {
				return nil
			}
			return fmt.Errorf("host %q is not this one: without a token only loopback names are answered", host)
		},
		wrong: s.wrong,
		sites: http.NewCrossOriginProtection(),
		next:  next,
	}
}

// Beside guards what is served beside the API: it takes the API's token, and others if there are
// any.
func (s *Server) Beside(next http.Handler, others ...func() string) http.Handler {
	return s.guard(next, append([]func() string{s.options.Token}, others...)...)
}

// Apart guards what is served at an address of its own, with a token of its own. While there is
// none, everyone is let in.
func (s *Server) Apart(next http.Handler, token func() string) http.Handler {
	return &guard{
		tokens: func() []string { return []string{token()} },
		open:   func(string) error { return nil },
		wrong:  s.wrong,
		sites:  http.NewCrossOriginProtection(),
		next:   next,
	}
}

// WrongTokens counts the wrong tokens that were sent.
func (s *Server) WrongTokens() int64 { return s.wrong.count() }

// ServeHTTP serves REST, and the OpenAPI document at /api/openapi.json.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// Register adds the API to a gRPC server. Who may call it is for that server to say: the token is
// for REST.
func (s *Server) Register(g grpc.ServiceRegistrar) {
	desc := millracev1.AdminService_ServiceDesc
	desc.Methods = slices.Clone(desc.Methods)
	for i, m := range desc.Methods {
		desc.Methods[i].Handler = func(srv any, ctx context.Context, decode func(any) error, i grpc.UnaryServerInterceptor) (any, error) {
			answer, err := m.Handler(srv, ctx, decode, i)
			if err != nil {
				return nil, s.service.refusal(m.MethodName, err)
			}
			return answer, nil
		}
	}
	g.RegisterService(&desc, s.service)
}

// maxBody bounds a request, in bytes.
const maxBody = 8 << 20

// maxWait bounds the wait for Envoy's answer to a change.
const maxWait = 10 * time.Second
