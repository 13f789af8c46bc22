package admin

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/structpb"

	"millrace/config"
	millracev1 "millrace/proto/millrace/v1"
)

// route is one method of the service under its REST path. Path parameters, query parameters and the
// body are the fields of its request message.
type route struct {
	verb, path string
	body       string // the field that the body is; "" for none
	input      protoreflect.MessageDescriptor
	output     protoreflect.MessageDescriptor
	call       grpc.MethodHandler
}

// routes reads the service's annotations.
func routes() []route {
	descriptor := millracev1.File_millrace_v1_admin_proto.Services().ByName("AdminService")
	var all []route
	for _, m := range millracev1.AdminService_ServiceDesc.Methods {
		method := descriptor.Methods().ByName(protoreflect.Name(m.MethodName))
		rule := proto.GetExtension(method.Options(), annotations.E_Http).(*annotations.HttpRule)
		r := route{body: rule.Body, input: method.Input(), output: method.Output(), call: m.Handler}
		switch pattern := rule.Pattern.(type) {
		case *annotations.HttpRule_Get:
			r.verb, r.path = http.MethodGet, pattern.Get
		case *annotations.HttpRule_Post:
			r.verb, r.path = http.MethodPost, pattern.Post
		case *annotations.HttpRule_Put:
			r.verb, r.path = http.MethodPut, pattern.Put
		case *annotations.HttpRule_Patch:
			r.verb, r.path = http.MethodPatch, pattern.Patch
		case *annotations.HttpRule_Delete:
			r.verb, r.path = http.MethodDelete, pattern.Delete
		}
		all = append(all, r)
	}
	return all
}

// writes tells whether the route changes anything.
func (r route) writes() bool { return r.input.Fields().ByName("dry_run") != nil }

// creates tells whether the route adds a resource.
func (r route) creates() bool { return r.verb == http.MethodPost && r.body == "resource" }

// success is the status of an answer that went well.
func (r route) success() int {
	switch {
	case r.creates():
		return http.StatusCreated
	case r.output.FullName() == (&emptypb.Empty{}).ProtoReflect().Descriptor().FullName():
		return http.StatusNoContent
	}
	return http.StatusOK
}

// mediaTypes are the formats that the body can be in, JSON's own first.
func (r route) mediaTypes() []string {
	switch {
	case r.body == "":
		return nil
	case r.verb == http.MethodPatch:
		return []string{"application/merge-patch+json", "application/json"}
	case r.body == "document":
		return []string{"application/json", yamlMediaType}
	}
	return []string{"application/json"}
}

// yamlMediaType is YAML's, RFC 9512.
const yamlMediaType = "application/yaml"

// newREST serves every route, and the OpenAPI document.
func newREST(s *service, o Options) http.Handler {
	mux := http.NewServeMux()
	all := routes()
	for _, rt := range all {
		mux.HandleFunc(rt.verb+" "+rt.path, func(w http.ResponseWriter, r *http.Request) {
			if err := rt.serve(s, w, r); err != nil {
				s.refusal(r.Method+" "+r.URL.Path, err).write(w)
			}
		})
	}
	(&events{o.Events, s.refusal}).register(mux)
	mux.Handle("GET /api/openapi.json", newOpenAPI(all, o))
	return recovered(o.Log, explained(mux))
}

// recovered turns a panic, which is a mistake of ours, into one 500 and one line.
func recovered(log *slog.Logger, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if p := recover(); p != nil && p != http.ErrAbortHandler { //nolint:errorlint // a panic's value is never wrapped
				log.Error("panic", "value", p, "path", r.URL.Path)
				internalError.because("the log has more").write(w)
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// explained is mux, with problem documents in place of its own plain words for what it does not
// know.
func explained(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		unknown, pattern := mux.Handler(r)
		if pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}
		said := &headersOnly{header: http.Header{}}
		unknown.ServeHTTP(said, r)
		if allow := said.header.Get("Allow"); allow != "" {
			w.Header().Set("Allow", allow)
			badMethod.because("%s is not among %s here", r.Method, allow).write(w)
			return
		}
		notFound.because("there is nothing at %s", r.URL.Path).write(w)
	})
}

// headersOnly is a response of which only the headers are of interest.
type headersOnly struct{ header http.Header }

func (h *headersOnly) Header() http.Header         { return h.header }
func (h *headersOnly) Write(b []byte) (int, error) { return len(b), nil }
func (h *headersOnly) WriteHeader(int)             {}

// serve carries out one request. An error is yet to be answered.
func (r route) serve(s *service, w http.ResponseWriter, req *http.Request) error {
	call := &call{method: req.Method + " " + req.URL.Path, header: w.Header()}
	ctx := grpc.NewContextWithServerTransportStream(req.Context(), call)
	ctx = metadata.NewIncomingContext(ctx, metadata.MD{ifMatch: req.Header.Values(ifMatch)})
	answer, err := r.call(s, ctx, func(m any) error { return r.read(w, req, m.(proto.Message).ProtoReflect()) }, nil)
	if err != nil {
		return err
	}
	if r.success() == http.StatusNoContent {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	body, err := config.JSON(answer.(proto.Message))
	if err != nil {
		return err
	}
	if created, ok := answer.(interface{ GetId() string }); ok && r.creates() {
		w.Header().Set("Location", strings.TrimSuffix(req.URL.EscapedPath(), "/")+"/"+url.PathEscape(created.GetId()))
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(r.success())
	w.Write(append(body, '\n')) //nolint:errcheck // the client is gone
	return nil
}

// read fills in the request message.
func (r route) read(w http.ResponseWriter, req *http.Request, m protoreflect.Message) error {
	inPath := map[protoreflect.Name]bool{}
	fields := r.input.Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if inPath[f.Name()] = strings.Contains(r.path, "{"+string(f.Name())+"}"); inPath[f.Name()] {
			if err := setParameter(m, f, []string{req.PathValue(string(f.Name()))}); err != nil {
				return err
			}
		}
	}
	query, err := url.ParseQuery(req.URL.RawQuery)
	if err != nil {
		return badRequest.because("query: %v", err)
	}
	for name, values := range query {
		f := fields.ByName(protoreflect.Name(name))
		if f == nil || inPath[f.Name()] || name == r.body {
			return badRequest.at(name, "unknown query parameter")
		}
		if err := setParameter(m, f, values); err != nil {
			return err
		}
	}
	if r.body == "" {
		return nil
	}
	return r.readBody(w, req, m.Mutable(fields.ByName(protoreflect.Name(r.body))).Message().Interface())
}

func setParameter(m protoreflect.Message, f protoreflect.FieldDescriptor, values []string) error {
	if len(values) != 1 {
		return badRequest.at(string(f.Name()), "given %d times", len(values))
	}
	switch f.Kind() {
	case protoreflect.BoolKind:
		b, err := strconv.ParseBool(values[0])
		if err != nil {
			return badRequest.at(string(f.Name()), "want true or false")
		}
		m.Set(f, protoreflect.ValueOfBool(b))
	case protoreflect.Uint32Kind:
		n, err := strconv.ParseUint(values[0], 10, 32)
		if err != nil {
			return badRequest.at(string(f.Name()), "want a number")
		}
		m.Set(f, protoreflect.ValueOfUint32(uint32(n)))
	default:
		m.Set(f, protoreflect.ValueOfString(values[0]))
	}
	return nil
}

func (r route) readBody(w http.ResponseWriter, req *http.Request, into proto.Message) error {
	mediaType, err := r.mediaType(req)
	if err != nil {
		return err
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxBody))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return tooLarge.because("a body may have %d bytes", maxBody)
	case err != nil:
		return badRequest.because("read the body: %v", err)
	}
	if patch, ok := into.(*structpb.Struct); ok {
		return readPatch(data, patch)
	}
	if mediaType == yamlMediaType {
		return decoded(config.Decode(data, into))
	}
	if _, err := config.StrictJSON(data); err != nil {
		return badRequest.all(config.AsErrors(err))
	}
	return decoded(config.DecodeJSON(data, into))
}

func decoded(err error) error {
	if err != nil {
		return invalid.all(config.AsErrors(err))
	}
	return nil
}

// mediaType is the format of the body; one that says nothing is JSON.
func (r route) mediaType(req *http.Request) (string, error) {
	header := req.Header.Get("Content-Type")
	if header == "" {
		return "application/json", nil
	}
	mediaType, _, err := mime.ParseMediaType(header)
	switch mediaType {
	case "application/x-yaml", "text/yaml", "text/x-yaml":
		mediaType = yamlMediaType
	}
	if err != nil || !slices.Contains(r.mediaTypes(), mediaType) {
		return "", badMediaType.because("want %s, got %s", strings.Join(r.mediaTypes(), " or "), header)
	}
	return mediaType, nil
}

func readPatch(data []byte, patch *structpb.Struct) error {
	value, err := config.StrictJSON(data)
	if err != nil {
		return badRequest.all(config.AsErrors(err))
	}
	if value.Kind() != '{' {
		return badRequest.because("a merge patch of a resource is a JSON object")
	}
	if err := protojson.Unmarshal(value, patch); err != nil {
		return badRequest.because("%v", err)
	}
	return nil
}

// Headers of requests and answers; in gRPC they are metadata.
const (
	ifMatch        = "if-match"
	etagHeader     = "etag"
	stateHeader    = "x-millrace-state"
	versionHeader  = "x-millrace-version"
	revisionHeader = "x-millrace-revision"
	sourceHeader   = "x-millrace-source"
	warningHeader  = "x-millrace-warning"
)

// call stands in for the transport of a gRPC call: the service's metadata become headers.
type call struct {
	method string
	header http.Header
}

func (c *call) Method() string                  { return c.method }
func (c *call) SendHeader(md metadata.MD) error { return c.SetHeader(md) }
func (c *call) SetTrailer(metadata.MD) error    { return nil }

func (c *call) SetHeader(md metadata.MD) error {
	for name, values := range md {
		for _, v := range values {
			c.header.Add(name, v)
		}
	}
	return nil
}

var _ grpc.ServerTransportStream = (*call)(nil)

// setHeader says something beside the answer.
func setHeader(ctx context.Context, pairs ...string) {
	// The only error is that there is no transport, as in a test that calls the service itself.
	_ = grpc.SetHeader(ctx, metadata.Pairs(pairs...))
}
