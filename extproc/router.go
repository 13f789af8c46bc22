package extproc

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"millrace/config"
	"millrace/envoy"
	"millrace/extproc/llm"
	"millrace/extproc/provider"
	"millrace/internal/strictjson"
	"millrace/schema"
)

// routing is one router stream: the reading of one request before a target is chosen.
type routing struct {
	server *Server
	x      *exchange
	header headers // the client's
	bare   bool    // Envoy's route is one that it serves by itself: always, or should the sidecar be dead
	sized  bool    // the headers say how large the body is
}

// route serves a router stream: the headers, then the body when there is one to read. Envoy closes
// the stream when it needs nothing more.
func (s *Server) route(stream extprocv3.ExternalProcessor_ProcessServer) error {
	r := &routing{server: s}
	return answerEach(stream, func(m *extprocv3.HttpHeaders, routeName string) *extprocv3.ProcessingResponse {
		if reply := r.timed(func() *extprocv3.ProcessingResponse { return r.headers(m, routeName) }); reply != nil {
			return reply
		}
		if r.bare && r.x.route.unread { // this is all that is asked
			r.x.bare = true
			s.exchanges.add(r.x)
		}
		return r.withMetadata(goOn(), "", "")
	}, func(b *extprocv3.HttpBody) *extprocv3.ProcessingResponse {
		return r.timed(func() *extprocv3.ProcessingResponse { return r.body(stream.Context(), b.Body) })
	})
}

// admit serves an admission stream, of a request that is large or does not say how large it is:
// what the router stream will refuse by the headers is refused before the body comes. The body is
// counted as it comes, and refused as soon as it is too large, or there is no room for more of it.
func (s *Server) admit(stream extprocv3.ExternalProcessor_ProcessServer) error {
	r := &routing{server: s}
	var size int64
	whole := false
	defer func() {
		if !whole && !r.sized && r.x != nil { // the client has left; Envoy's account of that may have been here before the last piece
			s.exchanges.bodies.release(r.x.id)
		}
	}()
	return answerEach(stream, func(m *extprocv3.HttpHeaders, routeName string) *extprocv3.ProcessingResponse {
		return cmp.Or(r.headers(m, routeName), goOn())
	}, func(piece *extprocv3.HttpBody) *extprocv3.ProcessingResponse {
		if size += int64(len(piece.Body)); size > r.x.runtime.maxBodyBytes {
			return r.refuse(r.tooLarge())
		}
		if e := r.holdSoFar(size); e != nil {
			return r.refuse(e)
		}
		whole = piece.EndOfStream
		return &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_RequestBody{RequestBody: &extprocv3.BodyResponse{}}}
	})
}

// answerEach answers every message of a stream, until one is answered for the client or Envoy
// closes it.
func answerEach(stream extprocv3.ExternalProcessor_ProcessServer,
	headers func(m *extprocv3.HttpHeaders, routeName string) *extprocv3.ProcessingResponse,
	body func(*extprocv3.HttpBody) *extprocv3.ProcessingResponse,
) error {
	for {
		message, err := stream.Recv()
		if errors.Is(err, io.EOF) || status.Code(err) == codes.Canceled {
			return nil
		}
		if err != nil {
			return err
		}
		var reply *extprocv3.ProcessingResponse
		switch m := message.Request.(type) {
		case *extprocv3.ProcessingRequest_RequestHeaders:
			reply = headers(m.RequestHeaders, attribute(message, envoy.AttributeRoute))
		case *extprocv3.ProcessingRequest_RequestBody:
			reply = body(m.RequestBody)
		default:
			return status.Errorf(codes.InvalidArgument, "router stream: unexpected %T", m)
		}
		if err := stream.Send(reply); err != nil || reply.GetImmediateResponse() != nil {
			return err
		}
	}
}

// timed notes how long the work took.
func (r *routing) timed(work func() *extprocv3.ProcessingResponse) *extprocv3.ProcessingResponse {
	began := time.Now()
	reply := work()
	r.x.spent(time.Since(began))
	return reply
}

// oneHost is what a Host may be once Envoy has taken the port off: a name, an address, or nothing.
// Envoy joins several Host headers with commas, and lets a user stand before an @.
var oneHost = regexp.MustCompile(`^([A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])$`)

// goOn answers headers that are taken as they are.
func goOn() *extprocv3.ProcessingResponse {
	return &extprocv3.ProcessingResponse{
		Response: &extprocv3.ProcessingResponse_RequestHeaders{RequestHeaders: &extprocv3.HeadersResponse{}},
	}
}

// headers decides all that needs no body, and returns the answer; nil where the body is wanted.
// Whatever is refused here costs one message.
func (r *routing) headers(m *extprocv3.HttpHeaders, routeName string) *extprocv3.ProcessingResponse {
	h := headersOf(m.Headers)
	r.header = h
	path, _, _ := strings.Cut(h.get(":path"), "?")
	r.x = &exchange{
		clientRequest: clientRequest{id: h.get(envoy.HeaderRequestID), path: path, client: guessClient(path, h), started: time.Now()},
		runtime:       r.server.runtime.Load(),
		route:         noRoute,
	}
	if reply := r.server.health(path); reply != nil {
		return reply
	}
	if r.server.stopped() {
		return r.refuse(shuttingDown())
	}
	if r.x.runtime == nil {
		return r.refuse(llm.Errorf(llm.ErrUnavailable, "the gateway has no configuration yet"))
	}
	if r.server.memory.short() {
		return r.refuse(crowded("the gateway is short of memory"))
	}
	if r.server.options.Events.Full() { // events.spool.on_full: refuse-requests
		return r.refuse(crowded("the gateway has no room left to record requests"))
	}
	host := h.get(":authority")
	if !oneHost.MatchString(host) {
		return r.refuse(llm.Errorf(llm.ErrInvalidRequest, "the Host %q is not one host name or address", host))
	}
	if routeName == "" { // no virtual host has this Host
		return r.refuse(llm.Errorf(llm.ErrNotFound, "no gateway has the host %q", host))
	}
	routeName, r.bare = strings.CutSuffix(routeName, envoy.RouteBare)
	route := r.x.runtime.routes[routeName]
	if before := r.server.previous.Load(); route == nil && before != nil { // Envoy has not heard of the change yet
		r.x.runtime, route = before, before.routes[routeName]
	}
	if route == nil {
		return r.refuse(llm.Errorf(llm.ErrUnavailable, "the gateway's configuration is changing"))
	}
	r.x.route = route
	if route.refusal != nil {
		return r.refuse(route.refusal, header("allow", route.allow))
	}
	if e := r.admit(h); e != nil {
		return r.refuse(e, header("www-authenticate", "Bearer"))
	}
	return r.operation(route.operation(path), path, h, m.EndOfStream)
}

// operation prepares for the body of a request whose rule is known.
func (r *routing) operation(operation, path string, h headers, endOfStream bool) *extprocv3.ProcessingResponse {
	method := h.get(":method")
	if name, one := strings.CutPrefix(operation, operationModels); one && (name == "" || name[0] == '/') {
		return r.models(method, strings.TrimPrefix(name, "/"))
	}
	if operation != "" {
		codec, params, ok := provider.At(operation)
		if !ok {
			return r.refuse(llm.Errorf(llm.ErrNotFound, "nothing is at %s; apps post to …%s, and get …/models", path, strings.Join(posted(), " or …")))
		}
		r.x.client, r.x.params, r.x.counts = codec, params, codec.Operation == schema.CountTokens
	}
	length, _ := strconv.ParseInt(h.get("content-length"), 10, 64)
	switch {
	case method != "POST":
		return r.refuse(llm.Errorf(llm.ErrMethod, "this path takes POST"), header("allow", "POST"))
	case length > r.x.runtime.maxBodyBytes:
		return r.refuse(r.tooLarge())
	case endOfStream:
		return r.refuse(llm.Errorf(llm.ErrInvalidRequest, "request body is not strict JSON: empty body"))
	case h.get("content-encoding") != "" && h.get("content-encoding") != "identity":
		return r.refuse(llm.Errorf(llm.ErrInvalidRequest, "content-encoding %q is not supported: send the body as it is", h.get("content-encoding")))
	}
	hold := r.holdSoFar
	if r.sized = h.get("content-length") != ""; r.sized {
		hold = r.hold
	}
	if e := hold(length); e != nil {
		return r.refuse(e)
	}
	r.x.header, r.x.forward = h.only(envoy.RequestHeaders), r.forward(h)
	r.x.via = envoy.PassedVia(h.list(envoy.HeaderVia))
	r.x.waits = announced(h)
	if r.x.trace = traceparent(h); r.x.trace != "" {
		r.x.state = h.only([]string{"tracestate"})["tracestate"]
	}
	return nil
}

// models answers for the list, or for one of its names as a path has it.
func (r *routing) models(method, name string) *extprocv3.ProcessingResponse {
	if method != "GET" && method != "HEAD" {
		return r.refuse(llm.Errorf(llm.ErrMethod, "this path takes GET"), header("allow", "GET"))
	}
	r.server.exchanges.add(r.x) // its event is to say who asked
	if name == "" {
		return respond(200, r.x.route.list)
	}
	if plain, err := url.PathUnescape(name); err == nil {
		name = plain
	}
	if card := r.x.route.models[name]; card != nil {
		return respond(200, card)
	}
	return r.refuse(noModel(name))
}

// forward copies the client's headers that some target of the route gets beside those that all get.
// The key that let the request in is not among them, whatever header it came in.
func (r *routing) forward(h headers) map[string]string {
	if len(r.x.route.forwards) == 0 {
		return nil
	}
	key := ""
	if r.x.route.keys != nil {
		key = presentedKey(h)
	}
	kept := map[string]string{}
	for _, v := range h {
		wanted := slices.ContainsFunc(r.x.route.forwards, func(t *config.Target) bool { return t.Forwards(v.Key) })
		if !wanted || key != "" && strings.Contains(value(v), key) {
			continue
		}
		add(kept, v.Key, value(v))
	}
	return kept
}

// hold counts a body, as large as its headers announce it or as it is by now, in place of what was
// counted of it before.
func (r *routing) hold(size int64) *llm.Error {
	if !r.server.exchanges.bodies.hold(r.x.id, size, r.maxBodies()) {
		return crowded("the bodies of the requests under way take all the room there is for them")
	}
	return nil
}

// holdSoFar counts what has come of a body of unknown size: as heldAtFirst until it is more, so
// that where there is no room it is refused by its headers.
func (r *routing) holdSoFar(size int64) *llm.Error {
	return r.hold(max(size, min(heldAtFirst, r.x.runtime.maxBodyBytes)))
}

const heldAtFirst = 256 << 10 // bytes

// maxBodies is what all bodies may take. Each is in memory up to three times for a moment: as it
// came, as it goes to the target, and on its way there.
func (r *routing) maxBodies() int64 { return min(r.x.runtime.maxBodies, r.server.memory.limit()/3) }

func (r *routing) tooLarge() *llm.Error {
	return llm.Errorf(llm.ErrTooLarge, "the request body is larger than %d bytes", r.x.runtime.maxBodyBytes)
}

// take reads the head of the request, asks the policies, and returns the answer where it is
// refused; else nil, and the exchange is known to upstream streams from here on. The caller has
// then to say when it is done with it (registry.read). ctx ends with the stream.
func (r *routing) take(ctx context.Context, body []byte) *extprocv3.ProcessingResponse {
	if int64(len(body)) > r.x.runtime.maxBodyBytes {
		return r.refuse(r.tooLarge())
	}
	if e := r.hold(int64(len(body))); e != nil { // it is more than it was let in for
		return r.refuse(e)
	}
	sent := body
	body = bytes.TrimPrefix(body, byteOrderMark) // JSON has none (RFC 8259, section 8.1), some editors and languages write one
	head, err := r.x.client.Client.ReadHead(r.x.params, body)
	if err != nil {
		return r.refuse(llm.AsError(err))
	}
	if err := bounds.Check(body); err != nil {
		return r.refuse(llm.Errorf(llm.ErrInvalidRequest, "the request body has %v", err))
	}
	if e := usableModel(head.Model); e != nil {
		return r.refuse(e)
	}
	r.x.route = r.x.route.decided(head.Model)
	if e := r.x.route.lacks(head.Model); e != nil {
		return r.refuse(e)
	}
	head.Params = r.x.params
	r.x.head, r.x.body, r.x.sent = head, body, body
	if !head.Stream && r.x.waits >= r.x.route.request {
		r.x.waits = 0 // the request's own limit ends it before
	}
	r.x.open = 1 // the reading of it, which the caller ends
	r.x.policed = r.x.route.policies != nil
	r.x.policing = r.x.policed
	r.server.exchanges.add(r.x)
	if e := r.police(ctx, sent); e != nil {
		r.x.refused(e)
		r.server.exchanges.read(r.x)
		return refuseWith(r.x, e)
	}
	return nil
}

// body takes the body and lets Envoy choose a target.
func (r *routing) body(ctx context.Context, body []byte) *extprocv3.ProcessingResponse {
	byModel := r.x.route.byModel != nil
	if refused := r.take(ctx, body); refused != nil {
		return refused
	}
	defer r.server.exchanges.read(r.x)
	head := r.x.head
	var choose []*corev3.HeaderValueOption // what Envoy can only choose the route by now that the body is read
	switch {
	case head.Stream:
		choose = append(choose, header(envoy.HeaderStream, "1"))
	case r.bare:
		choose = append(choose, header(envoy.HeaderStream, "0"))
	}
	if byModel {
		choose = append(choose, header(envoy.HeaderModel, head.Model))
	}
	common := &extprocv3.CommonResponse{ClearRouteCache: len(choose) > 0}
	if r.x.route.prompts {
		choose = append(choose, header(envoy.HeaderPromptHash, promptHash(r.x.body, r.x.client.Schema.Prompt)))
	}
	if len(choose) > 0 {
		common.HeaderMutation = &extprocv3.HeaderMutation{SetHeaders: choose}
	}
	return r.withMetadata(&extprocv3.ProcessingResponse{
		Response: &extprocv3.ProcessingResponse_RequestBody{RequestBody: &extprocv3.BodyResponse{Response: common}},
	}, head.Model, r.x.mustSpeak())
}

// mustSpeak is the schema that a target must speak to be told the request, "" when any can. It is
// the client's own where that of another target has no word for what is asked: several answers,
// audio, a provider's own tool. To try that is as much work as the translation, so a body that is
// large is not tried: what it asks and its target cannot be told is a 400.
func (x *exchange) mustSpeak() schema.Name {
	if len(x.body) > maxTried {
		return ""
	}
	for _, t := range x.route.schemas {
		if t.codec.Schema == x.client.Schema {
			continue
		}
		request, e := x.request()
		if e != nil {
			return x.client.Schema.Name
		}
		codec, ok := x.codecOf(t)
		if x.counts { // of what it could be told the gateway makes an estimate
			codec, ok = t.codec, true
		}
		if !ok {
			return x.client.Schema.Name
		}
		if _, err := codec.Target.EncodeRequest(request, t.options(cmp.Or(t.config.Model(x.head.Model), "any"))); err != nil {
			return x.client.Schema.Name
		}
	}
	return ""
}

const maxTried = 1 << 20 // bytes

var byteOrderMark = []byte("\xef\xbb\xbf")

// bounds are on what a body makes of its bytes: work and memory follow the number of its parts. No
// client comes near: a long agent session has some thousands of messages, a large set of tools a
// hundred, a deep JSON schema 30 levels.
var bounds = strictjson.Bounds{Members: 1000, Items: 20_000, Nested: 250_000, Depth: 256}

// usableModel checks the name as far as it goes into headers, metadata and paths.
func usableModel(name string) *llm.Error {
	if len(name) > config.MaxModel {
		return llm.Invalid("model", "longer than %d bytes", config.MaxModel)
	}
	if strings.ContainsFunc(name, unicode.IsControl) {
		return llm.Invalid("model", "holds a control character")
	}
	return nil
}

// withMetadata tells Envoy the client's schema, by which it words its own errors, and what targets
// are chosen by: the model, and the schema that they must speak; "" where that does not matter.
func (r *routing) withMetadata(reply *extprocv3.ProcessingResponse, model string, speaks schema.Name) *extprocv3.ProcessingResponse {
	values := map[string]map[string]string{envoy.Metadata: {envoy.MetadataSchema: string(r.x.client.Schema.Name)}}
	choose := map[string]string{}
	if model != "" && r.x.route.listed {
		choose[envoy.MetadataModel] = model
	}
	if speaks != "" {
		choose[envoy.MetadataSpeaks] = string(speaks)
	}
	if len(choose) > 0 {
		values[envoy.MetadataLB] = choose
	}
	reply.DynamicMetadata = dynamicMetadata(values)
	return reply
}

// refuse answers in the client's schema. Nothing has been sent upstream, and Envoy drops what it
// has of the body.
func (r *routing) refuse(e *llm.Error, extra ...*corev3.HeaderValueOption) *extprocv3.ProcessingResponse {
	r.x.refused(e)
	r.server.exchanges.bodies.release(r.x.id)
	r.server.exchanges.add(r.x)
	return refuseWith(r.x, e, extra...)
}

// noRoute stands for the route of a request that has none.
var noRoute = &route{}

// guessClient is the schema to word errors in until the path has told.
func guessClient(path string, h headers) provider.Codec {
	guessed := schema.Guess(path, func(name string) bool { return h.get(name) != "" })
	codec, _ := provider.Of(guessed.Name)
	return codec
}

// posted are the paths that apps post to.
func posted() []string {
	var paths []string
	for _, s := range schema.All() {
		paths = append(paths, s.Operations[0].Path.String())
	}
	return paths
}
