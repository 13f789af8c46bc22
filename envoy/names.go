package envoy

import (
	_ "embed"
	"strings"
	"time"
)

// LongestHold is the longest that the sidecar may hold an answer where Envoy keeps a clock on that,
// and the longest that Envoy takes.
const LongestHold = time.Hour

// Names that both halves of the gateway and Envoy's configuration spell alike.
const (
	// SidecarCluster is the bootstrap's cluster for the sidecar: xDS, all ext_proc streams and the
	// access log go there.
	SidecarCluster = "millrace"
	// AttemptsListener is an internal listener. Every endpoint of every pool leads to it: an
	// attempt passes the sidecar there, which names the cluster that it goes on to (HeaderCluster).
	AttemptsListener = "attempts"
	// BareListener is the same without the sidecar, for what Envoy serves by itself.
	BareListener = "bare"
	// NodeID is what Envoy calls itself towards the sidecar. There is one Envoy to a sidecar.
	NodeID = "millrace-envoy"
	// Listener and Routes are the two resources that the app-facing side consists of.
	Listener = "ingress"
	Routes   = "ingress"

	// Metadata is the namespace of ours in dynamic and endpoint metadata.
	Metadata = "millrace"
	// MetadataTarget is the target's identity in an endpoint's metadata. It is also the name of its
	// cluster.
	MetadataTarget = "target"
	// MetadataSchema is the client's schema in the request's dynamic metadata: Envoy's own errors
	// are worded by it.
	MetadataSchema = "schema"
	// AnsweredDetails is what Envoy notes as the reason of an answer that the sidecar gave: such
	// answers need no wording by Envoy.
	AnsweredDetails = "millrace"
	// MetadataLB is Envoy's namespace for choosing among the endpoints of a pool, MetadataModel our
	// key in it.
	MetadataLB    = "envoy.lb"
	MetadataModel = "model"
	// MetadataSpeaks is our other key in it: the schema that a target must speak, for requests that
	// not all targets can be told.
	MetadataSpeaks = "speaks"

	// HeaderStream selects the route with the timeouts for streams (1), or away from the one for a
	// dead sidecar (0). Only the router stream sets it.
	HeaderStream = "x-millrace-stream"
	// HeaderModel carries the model to rules that choose by it. Only the router stream sets it.
	HeaderModel = "x-millrace-model"
	// HeaderPromptHash chooses the target of a conversation. Only the router stream sets it; no
	// target sees it.
	HeaderPromptHash = "x-millrace-prompt-hash"
	// HeaderRetry on the answer to an attempt has Envoy make another one. Only upstream streams set
	// it; no client sees it.
	HeaderRetry = "x-millrace-retry"
	// HeaderRoute tells an upstream stream the name of the route that Envoy took. HeaderCluster is
	// the cluster that an attempt goes on to; only upstream streams set it. No target sees either.
	HeaderRoute   = "x-millrace-route"
	HeaderCluster = "x-millrace-cluster"
	// HeaderRead, 1, has the upstream stream of a request's first attempt read the request. Only
	// routes set it.
	HeaderRead = "x-millrace-read"
	// HeaderPath is the path that the client asked for, where Envoy writes the target's over it.
	// Only routes set it. No target sees it.
	HeaderPath = "x-millrace-path"
	// HeaderDetach, 1, lets the upstream stream detach from the answer. Only routes set it.
	HeaderDetach = "x-millrace-detach"
	// HeaderAttempt is Envoy's own count of a request's attempts, from 1. No target sees it.
	HeaderAttempt = "x-envoy-attempt-count"
	// HeaderScheme is what Envoy wants of a request that it finds a route for. No target sees it.
	HeaderScheme = "x-forwarded-proto"
	// HeaderWhy is on what Envoy answers in a target's place: its flags, its reason in a word, and
	// what is wrong with TLS. Only the sidecar sees it.
	HeaderWhy = "x-millrace-why"
	// HeaderRequestID identifies an exchange to both streams, to the access log and to the
	// provider. Envoy and the router stream set it; a client's own is replaced.
	HeaderRequestID = "x-request-id"

	// PathHealth and PathReady are the health paths. Balancers ask for them every few seconds: no
	// event is written for them.
	PathHealth = "/health"
	PathReady  = "/health/ready"

	// StreamKind is the gRPC metadata key by which an ext_proc stream says which of the three it
	// is.
	StreamKind      = "x-millrace-kind"
	StreamAdmission = "admission"
	StreamRouter    = "router"
	StreamUpstream  = "upstream"

	// MetadataUsage is the namespace of what Envoy finds a stream to say of its usage, by
	// schema.UsagePlace.
	MetadataUsage = "millrace.usage"

	// AttributeRoute is what Envoy tells the router stream about the request.
	AttributeRoute = "xds.route_name"

	// LogRequests and LogAttempts name the two access logs.
	LogRequests = "requests"
	LogAttempts = "attempts"

	// RouteBare stands behind a rule's route name where Envoy serves the request by itself, or
	// would, should the sidecar be dead. PoolBare stands before the name of the pool that it is
	// then served by.
	RouteBare = " bare"
	PoolBare  = "bare:"
	// PoolPrefer stands before the name of a pool that has another one's targets in another order
	// (Name in config/prefer.go).
	PoolPrefer = "prefer:"

	// RouteNone names the route of a path that no rule has. RouteMethod, before gateway and path of
	// rules, names that of a method none of them takes, RouteModel that of a model none of them
	// names: until the body is read, it may still be one's.
	RouteNone   = "none"
	RouteMethod = "method:"
	RouteModel  = "model:"

	// RouteLoop names the route of a request that has passed the gateway before, RouteHops that of
	// one that has passed too many.
	RouteLoop = "loop"
	RouteHops = "hops"
	// RoutePreflight names the route of a browser's question whether a page may send a request.
	// Envoy answers it.
	RoutePreflight = "preflight"

	// Runtime names the resource of values that Envoy looks up while it runs, RuntimeMaxMemory the
	// one that bootstrap.yaml's overload manager looks up.
	Runtime          = "limits"
	RuntimeMaxMemory = "millrace.max_memory"

	// SidecarSocket and AdminSocket are files in the folder that Envoy and the sidecar share.
	SidecarSocket = "millrace.sock"
	AdminSocket   = "envoy-admin.sock"

	// SocketDir is that folder in bootstrap.yaml as it stands.
	SocketDir = "/run/millrace"
)

//go:embed bootstrap.yaml
var bootstrap string

// Bootstrap returns the bootstrap configuration for sockets in dir. With SocketDir it is the file
// as it stands.
func Bootstrap(dir string) []byte {
	return []byte(strings.ReplaceAll(bootstrap, SocketDir+"/", strings.TrimRight(dir, "/")+"/"))
}
