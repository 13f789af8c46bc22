package extproc

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"millrace/envoy"
	"millrace/extproc/llm"
)

// headers are Envoy's: lower-case names, pseudo headers among them, in order.
type headers []*corev3.HeaderValue

func headersOf(m *corev3.HeaderMap) headers { return m.GetHeaders() }

// get returns the first value of the name, "" when there is none.
func (h headers) get(name string) string {
	for _, v := range h {
		if v.Key == name {
			return value(v)
		}
	}
	return ""
}

func value(v *corev3.HeaderValue) string {
	if len(v.RawValue) > 0 {
		return string(v.RawValue)
	}
	return v.Value
}

// list returns all values of the name, with commas between them.
func (h headers) list(name string) string {
	var values []string
	for _, v := range h {
		if v.Key == name {
			values = append(values, value(v))
		}
	}
	return strings.Join(values, ",")
}

// only copies the headers of these names.
func (h headers) only(names []string) map[string]string {
	kept := make(map[string]string, len(names))
	for _, v := range h {
		if slices.Contains(names, v.Key) {
			add(kept, v.Key, value(v))
		}
	}
	return kept
}

// add puts a header's value behind what there is of that name: lists may come in several lines (RFC
// 9110, section 5.3). What is no list comes twice by mistake, the same as a rule.
func add(to map[string]string, name, v string) {
	if before, again := to[name]; again && before != v {
		v = before + ", " + v
	}
	to[name] = v
}

// http copies h for code that speaks net/http.
func (h headers) http() http.Header {
	out := make(http.Header, len(h))
	for _, v := range h {
		if !strings.HasPrefix(v.Key, ":") {
			out.Add(v.Key, value(v))
		}
	}
	return out
}

// replace returns the mutation that leaves exactly the wanted headers: what is there and not wanted
// goes, whoever put it there. Mutations of an earlier attempt are still in h, and this is why none
// of them can reach another target. Pseudo headers stay unless wanted otherwise.
func (h headers) replace(want map[string]string) *extprocv3.HeaderMutation {
	m := &extprocv3.HeaderMutation{
		RemoveHeaders: make([]string, 0, len(h)),
		SetHeaders:    make([]*corev3.HeaderValueOption, 0, len(want)),
	}
	for _, v := range h {
		if _, wanted := want[v.Key]; !wanted && !strings.HasPrefix(v.Key, ":") {
			m.RemoveHeaders = append(m.RemoveHeaders, v.Key)
		}
	}
	for name, v := range want {
		if !h.has(name, v) {
			m.SetHeaders = append(m.SetHeaders, header(name, v)) // which replaces every value
		}
	}
	return m
}

// has tells whether the name has this value and no other.
func (h headers) has(name, want string) bool {
	found := false
	for _, v := range h {
		if v.Key != name {
			continue
		}
		if found || len(v.RawValue) > 0 && string(v.RawValue) != want || len(v.RawValue) == 0 && v.Value != want {
			return false
		}
		found = true
	}
	return found
}

// header sets a header, in place of all values it has.
func header(name, v string) *corev3.HeaderValueOption {
	set := &struct { // one allocation
		option corev3.HeaderValueOption
		header corev3.HeaderValue
	}{}
	set.header.Key, set.header.RawValue = name, []byte(v)
	set.option.Header, set.option.AppendAction = &set.header, corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD
	return &set.option
}

// respond ends the request here with a JSON body, or another that the extra headers tell.
func respond(status int, body []byte, extra ...*corev3.HeaderValueOption) *extprocv3.ProcessingResponse {
	set := []*corev3.HeaderValueOption{header("content-type", "application/json")}
	for _, h := range extra {
		if len(h.Header.RawValue) > 0 {
			set = append(set, h)
		}
	}
	return &extprocv3.ProcessingResponse{
		Response: &extprocv3.ProcessingResponse_ImmediateResponse{ImmediateResponse: &extprocv3.ImmediateResponse{
			Status:  &typev3.HttpStatus{Code: typev3.StatusCode(status)},
			Headers: &extprocv3.HeaderMutation{SetHeaders: set},
			Body:    body,
			Details: envoy.AnsweredDetails,
		}},
	}
}

// refuseWith ends the request here with an error in the client's schema.
func refuseWith(x *exchange, e *llm.Error, extra ...*corev3.HeaderValueOption) *extprocv3.ProcessingResponse {
	extra = append(extra, header("x-millrace-request-id", x.id), retryAfter(e))
	if e.Type == llm.ErrConflict || e.Type == llm.ErrLoop {
		extra = append(extra, header("x-should-retry", "false")) // the SDKs retry 409 and all from 500
	}
	return respond(e.HTTPStatus(), x.client.Client.EncodeError(e), extra...)
}

// retryAfter is the header for an error that says when to come back; it is empty, and left out,
// otherwise.
func retryAfter(e *llm.Error) *corev3.HeaderValueOption {
	if e.RetryAfter <= 0 {
		return header("retry-after", "")
	}
	return header("retry-after", strconv.Itoa(int((e.RetryAfter + 999_999_999).Seconds())))
}

func dynamicMetadata(values map[string]map[string]string) *structpb.Struct {
	out := &structpb.Struct{Fields: make(map[string]*structpb.Value, len(values))}
	for namespace, pairs := range values {
		inner := &structpb.Struct{Fields: make(map[string]*structpb.Value, len(pairs))}
		for k, v := range pairs {
			inner.Fields[k] = structpb.NewStringValue(v)
		}
		out.Fields[namespace] = structpb.NewStructValue(inner)
	}
	return out
}

// attribute reads one of the attributes that Envoy was asked to send with a stream's first message.
func attribute(m *extprocv3.ProcessingRequest, name string) string {
	for _, values := range m.Attributes {
		if v, ok := values.Fields[name]; ok {
			switch kind := v.Kind.(type) {
			case *structpb.Value_StringValue:
				return kind.StringValue
			case *structpb.Value_NumberValue:
				return strconv.FormatFloat(kind.NumberValue, 'f', -1, 64)
			}
		}
	}
	return ""
}

// targetOf is the identity of the target that Envoy chose for the attempt, "" for none.
func targetOf(m *extprocv3.ProcessingRequest) string {
	return m.MetadataContext.GetFilterMetadata()[envoy.Metadata].GetFields()[envoy.MetadataTarget].GetStringValue()
}
