package xds

import (
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	celv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/filters/cel/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"millrace/envoy"
	"millrace/schema"
)

// ownError is how one of Envoy's own failures is said to a client. Rows are tried in order.
type ownError struct {
	statusFrom, statusTo uint32 // inclusive
	message              string // Envoy's command operators are filled in
	class                string // llm.ErrorType's, for which each schema has its word
	code                 string // the finer word, for schemas that have one; "" for none
	details              string // why Envoy says it, as its access log has it; "" means whatever the reason
}

var ownErrors = []ownError{
	{400, 400, "this is not a request as HTTP wants it (%RESPONSE_CODE_DETAILS%)", "invalid_request", "", ""},
	{403, 403, "the connection cannot be upgraded", "invalid_request", "", "upgrade_failed"},
	{404, 404, "no such path", "not_found", "", ""},
	{408, 408, "the request did not arrive in time", "timeout", "", ""},
	{413, 413, "the request body is too large", "too_large", "", ""},
	{431, 431, "the request headers are too large", "invalid_request", "", ""},
	{400, 499, "%LOCAL_REPLY_BODY%", "invalid_request", "", ""},
	{501, 501, "the only transfer-encoding is chunked, once", "invalid_request", "", ""},
	{504, 504, "no answer from any target in time (%LOCAL_REPLY_BODY%)", "timeout", "timeout", ""},
	{503, 503, "too many requests are under way, try again shortly", "unavailable", "overloaded", "upstream_reset_before_response_started{overflow}"},
	{503, 503, "the gateway is short of memory, try again shortly", "unavailable", "overloaded", "overload"},
	{508, 508, "the request came back to a gateway that it has passed", "loop", "loop_detected", ""},
	{500, 599, "no target could answer (%LOCAL_REPLY_BODY%)", "unavailable", "unavailable", ""},
}

// localReplies words Envoy's own answers (no healthy target, timeouts, a dead sidecar) in the
// client's schema. Answers of the sidecar pass here too and are left alone.
func localReplies() *hcmv3.LocalReplyConfig {
	c := &hcmv3.LocalReplyConfig{Mappers: []*hcmv3.ResponseMapper{{
		Filter: because(envoy.AnsweredDetails),
	}}}
	c.Mappers = append(c.Mappers, healthReplies()...)
	for _, e := range ownErrors {
		c.Mappers = append(c.Mappers, e.mappers()...)
	}
	return c
}

// attemptReplies are what Envoy answers in a target's place. The sidecar sees them, and why: it
// tells the client, or asks another target. Their words are for when it is gone.
func attemptReplies() *hcmv3.LocalReplyConfig {
	c := &hcmv3.LocalReplyConfig{Mappers: []*hcmv3.ResponseMapper{{
		Filter: because(envoy.AnsweredDetails),
	}}}
	for _, e := range ownErrors {
		for _, m := range e.mappers() {
			m.HeadersToAdd = append(m.HeadersToAdd, &corev3.HeaderValueOption{
				Header: &corev3.HeaderValue{Key: envoy.HeaderWhy, Value: "%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %UPSTREAM_TRANSPORT_FAILURE_REASON%"},
			})
			c.Mappers = append(c.Mappers, m)
		}
	}
	return c
}

// healthReplies answer the health paths when the sidecar is not asked or does not answer: an Envoy
// that is short of memory refuses every request before its filters see it, and lives all the same.
func healthReplies() []*hcmv3.ResponseMapper {
	full, dead := because("overload"), status(accesslogv3.ComparisonFilter_GE, 500)
	return []*hcmv3.ResponseMapper{
		healthReply(envoy.PathHealth, full, 200, "ok", "envoy is short of memory and takes no other requests"),
		healthReply(envoy.PathReady, full, 503, "not ready", "envoy is short of memory"),
		healthReply(envoy.PathHealth, dead, 503, "no sidecar", "the sidecar does not answer: %LOCAL_REPLY_BODY%"),
		healthReply(envoy.PathReady, dead, 503, "not ready", "the sidecar does not answer: %LOCAL_REPLY_BODY%"),
	}
}

func healthReply(path string, when *accesslogv3.AccessLogFilter, code uint32, word, reason string) *hcmv3.ResponseMapper {
	body := object("status", structpb.NewStringValue(word))
	body.Fields["reason"] = structpb.NewStringValue(reason)
	return &hcmv3.ResponseMapper{
		Filter:     allOf(hasHeader(headerIs(":path", pathIs(path))), when),
		StatusCode: wrapperspb.UInt32(code),
		BodyFormatOverride: &corev3.SubstitutionFormatString{
			Format:      &corev3.SubstitutionFormatString_JsonFormat{JsonFormat: body},
			ContentType: "application/json",
		},
	}
}

// pathIs matches the path with any query.
func pathIs(path string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{
		SafeRegex: &matcherv3.RegexMatcher{Regex: path + `(\?.*)?`},
	}}
}

// mappers say the error to the clients of each schema.
func (e ownError) mappers() []*hcmv3.ResponseMapper {
	var all []*hcmv3.ResponseMapper
	for _, s := range schema.All() {
		if s != schema.Usual() {
			all = append(all, e.mapper(asks(s), e.body(s.Error)))
		}
	}
	return append(all, e.mapper(nil, e.body(schema.Usual().Error)))
}

func (e ownError) mapper(also *accesslogv3.AccessLogFilter, body *structpb.Struct) *hcmv3.ResponseMapper {
	filters := []*accesslogv3.AccessLogFilter{
		status(accesslogv3.ComparisonFilter_GE, e.statusFrom),
		status(accesslogv3.ComparisonFilter_LE, e.statusTo),
	}
	if e.details != "" {
		filters = append(filters, because(e.details))
	}
	if also != nil {
		filters = append(filters, also)
	}
	return &hcmv3.ResponseMapper{
		Filter: allOf(filters...),
		HeadersToAdd: []*corev3.HeaderValueOption{{
			Header: &corev3.HeaderValue{Key: "x-millrace-request-id", Value: "%REQ(X-REQUEST-ID)%"},
		}},
		BodyFormatOverride: &corev3.SubstitutionFormatString{
			Format:      &corev3.SubstitutionFormatString_JsonFormat{JsonFormat: body},
			ContentType: "application/json",
		},
	}
}

// body is the error in the form of a schema.
func (e ownError) body(form schema.ErrorForm) *structpb.Struct {
	body := &structpb.Struct{}
	if err := protojson.Unmarshal([]byte(form.Body), body); err != nil {
		panic("xds: " + err.Error())
	}
	code := structpb.NewNullValue()
	if e.code != "" {
		code = structpb.NewStringValue(e.code)
	}
	fill(body, map[string]*structpb.Value{
		schema.Message:   structpb.NewStringValue(e.message),
		schema.ErrorType: structpb.NewStringValue(form.Type(e.class)),
		schema.ErrorCode: code,
	})
	return body
}

// fill puts values into the place of the strings that stand for them.
func fill(body *structpb.Struct, values map[string]*structpb.Value) {
	for name, v := range body.Fields {
		if inner := v.GetStructValue(); inner != nil {
			fill(inner, values)
		} else if said := values[v.GetStringValue()]; said != nil {
			body.Fields[name] = said
		}
	}
}

func object(name string, v *structpb.Value) *structpb.Struct {
	return &structpb.Struct{Fields: map[string]*structpb.Value{name: v}}
}

func status(op accesslogv3.ComparisonFilter_Op, code uint32) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_StatusCodeFilter{
		StatusCodeFilter: &accesslogv3.StatusCodeFilter{Comparison: &accesslogv3.ComparisonFilter{
			Op:    op,
			Value: &corev3.RuntimeUInt32{DefaultValue: code, RuntimeKey: "millrace.never_overridden"},
		}},
	}}
}

// asks holds for requests that the router stream found to be of the schema and, where the sidecar
// was not there to say so, for those that look like it. Only there: towards a target the same
// headers are ours.
func asks(s *schema.Schema) *accesslogv3.AccessLogFilter {
	return anyOf(
		hasMetadata(envoy.MetadataSchema, string(s.Name), false),
		allOf(
			hasMetadata(envoy.MetadataSchema, "nobody says this", true), // true only where there is none
			anyOf(
				hasHeader(has(s.Sniff.Header, true)),
				hasHeader(headerIs(":path", &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Contains{Contains: s.Sniff.Path}})),
			),
		),
	)
}

func allOf(filters ...*accesslogv3.AccessLogFilter) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_AndFilter{AndFilter: &accesslogv3.AndFilter{Filters: filters}}}
}

func anyOf(filters ...*accesslogv3.AccessLogFilter) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_OrFilter{OrFilter: &accesslogv3.OrFilter{Filters: filters}}}
}

func hasHeader(m *routev3.HeaderMatcher) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_HeaderFilter{HeaderFilter: &accesslogv3.HeaderFilter{Header: m}}}
}

// because holds for answers with these details.
func because(details string) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_ExtensionFilter{
		ExtensionFilter: &accesslogv3.ExtensionFilter{
			Name: "envoy.access_loggers.extension_filters.cel",
			ConfigType: &accesslogv3.ExtensionFilter_TypedConfig{TypedConfig: packed(&celv3.ExpressionFilter{
				Expression: "response.code_details == '" + details + "'",
			})},
		},
	}}
}

func hasMetadata(key, value string, ifAbsent bool) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_MetadataFilter{
		MetadataFilter: &accesslogv3.MetadataFilter{
			Matcher: &matcherv3.MetadataMatcher{
				Filter: envoy.Metadata,
				Path:   []*matcherv3.MetadataMatcher_PathSegment{{Segment: &matcherv3.MetadataMatcher_PathSegment_Key{Key: key}}},
				Value: &matcherv3.ValueMatcher{MatchPattern: &matcherv3.ValueMatcher_StringMatch{
					StringMatch: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: value}},
				}},
			},
			MatchIfKeyNotFound: wrapperspb.Bool(ifAbsent),
		},
	}}
}
