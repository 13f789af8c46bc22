package control

import (
	"bytes"
	"context"
	"net"
	"sync"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"millrace/envoy"
	"millrace/xds"
)

// refusal is what the fake Envoy says of what it refuses.
const refusal = "the fake Envoy does not like it"

// fakeEnvoy is an ADS client over a real gRPC connection. Like Envoy it says on a new stream what
// it has, takes or refuses each response as a whole, and keeps the resources of a type that it has.
type fakeEnvoy struct {
	t      *testing.T
	client discoveryv3.AggregatedDiscoveryServiceClient

	mu      sync.Mutex // guards what follows
	refuses string     // a response is refused when a resource in it holds this; "" takes all
	slow    chan struct{}
	has     map[resource.Type]map[string]*discoveryv3.Resource
	refused int // responses

	cancel context.CancelFunc // nil while it is away
	gone   sync.WaitGroup
}

// types are those that Envoy is served.
var types = []resource.Type{
	resource.ClusterType, resource.EndpointType, resource.ListenerType, resource.RouteType, resource.SecretType, resource.RuntimeType,
}

// newFakeEnvoy is an Envoy that has not connected yet.
func newFakeEnvoy(t *testing.T, server *xds.Server) *fakeEnvoy {
	t.Helper()
	listener, g := bufconn.Listen(1<<20), grpc.NewServer()
	server.Register(g)
	var serving sync.WaitGroup
	serving.Go(func() { _ = g.Serve(listener) })
	conn, err := grpc.NewClient("passthrough:///envoy", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	e := &fakeEnvoy{t: t, client: discoveryv3.NewAggregatedDiscoveryServiceClient(conn)}
	e.forget()
	t.Cleanup(func() {
		e.leave()
		conn.Close()
		g.Stop()
		serving.Wait()
	})
	return e
}

// connect opens a stream, and another one whenever the server ends it.
func (e *fakeEnvoy) connect() {
	ctx, cancel := context.WithCancel(context.Background())
	e.cancel = cancel
	e.gone.Go(func() {
		for ctx.Err() == nil {
			if err := e.speak(ctx); ctx.Err() == nil {
				e.t.Logf("the fake Envoy's stream has ended: %v", err)
			}
		}
	})
}

// speak is one stream.
func (e *fakeEnvoy) speak(ctx context.Context) error {
	stream, err := e.client.DeltaAggregatedResources(ctx)
	if err != nil {
		return err
	}
	for _, kind := range types {
		first := &discoveryv3.DeltaDiscoveryRequest{
			Node: &corev3.Node{Id: envoy.NodeID}, TypeUrl: kind, InitialResourceVersions: e.versions(kind),
		}
		if err := stream.Send(first); err != nil {
			break // Recv says why
		}
	}
	for {
		r, err := stream.Recv()
		if err != nil {
			return err
		}
		if gate := e.gate(); gate != nil {
			select {
			case <-gate:
			case <-ctx.Done():
			}
		}
		_ = stream.Send(e.answer(r)) // Recv says why it cannot
	}
}

// leave closes the stream; what it has it keeps.
func (e *fakeEnvoy) leave() {
	if e.cancel != nil {
		e.cancel()
		e.cancel = nil
	}
	e.gone.Wait()
}

// forget is what a restart does to an Envoy.
func (e *fakeEnvoy) forget() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.has = map[resource.Type]map[string]*discoveryv3.Resource{}
	for _, kind := range types {
		e.has[kind] = map[string]*discoveryv3.Resource{}
	}
}

// refuse has it refuse every response with a resource that holds the text, from now on.
func (e *fakeEnvoy) refuse(text string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.refuses = text
}

// hold has it think about every response until release is called.
func (e *fakeEnvoy) hold() (release func()) {
	gate := make(chan struct{})
	e.mu.Lock()
	defer e.mu.Unlock()
	e.slow = gate
	return sync.OnceFunc(func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.slow = nil
		close(gate)
	})
}

func (e *fakeEnvoy) gate() chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.slow
}

func (e *fakeEnvoy) versions(kind resource.Type) map[string]string {
	e.mu.Lock()
	defer e.mu.Unlock()
	versions := map[string]string{}
	for name, r := range e.has[kind] {
		versions[name] = r.Version
	}
	return versions
}

func (e *fakeEnvoy) answer(r *discoveryv3.DeltaDiscoveryResponse) *discoveryv3.DeltaDiscoveryRequest {
	e.mu.Lock()
	defer e.mu.Unlock()
	answer := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.TypeUrl, ResponseNonce: r.Nonce}
	for _, one := range r.Resources {
		if e.refuses != "" && bytes.Contains(one.GetResource().GetValue(), []byte(e.refuses)) {
			e.refused++
			answer.ErrorDetail = &rpcstatus.Status{Code: 3, Message: refusal}
			return answer
		}
	}
	for _, one := range r.Resources {
		e.has[r.TypeUrl][one.Name] = one
	}
	for _, name := range r.RemovedResources {
		delete(e.has[r.TypeUrl], name)
	}
	return answer
}

// holds tells whether an endpoint, and so a target that requests may go to, holds the text.
func (e *fakeEnvoy) holds(text string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, one := range e.has[resource.EndpointType] {
		if bytes.Contains(one.GetResource().GetValue(), []byte(text)) {
			return true
		}
	}
	return false
}

// refusals counts the responses that it has refused.
func (e *fakeEnvoy) refusals() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.refused
}
