package xds

import (
	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	matchingv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/matching/v3"
	skipv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/matcher/action/v3"
	bufferv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/buffer/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"millrace/config"
	"millrace/envoy"
)

// A request's body is held whole before a target is chosen (bodyLimit). The sidecar must have
// agreed to that before the body is in, or many large bodies at once fill Envoy: it knows what all
// requests under way hold. How it is asked depends on what the headers say of the body:
//
//   - little (at most five digits of content-length), most requests: not at all. A refusal by the
//     router stream then finds the whole request in, and the connection stays usable.
//   - much, and how much: by a stream of its own that has the headers alone, announced.
//   - not how much: by one that counts the body as it comes, admission.

// largeBody is a content-length of 100,000 and more.
const largeBody = `0*[1-9][0-9]{5,}`

// admission asks the sidecar about a request that does not say how long its body is. A dead sidecar
// is the router stream's matter, so here it is passed over.
func (b *builder) admission() *hcmv3.HttpFilter {
	// without the body, bodyLimit misses one that is too large by the time of the reply
	return skipped(admission, asked(config.AdmissionMessages), anyOfHeaders(present("content-length"), notPosted()))
}

// announced asks the sidecar about a request that says how long its body is, and it is long.
func (b *builder) announced() *hcmv3.HttpFilter {
	return skipped(announced, asked(config.AdmissionMessages[:1]), anyOfHeaders(not(matches("content-length", largeBody)), notPosted()))
}

func asked(messages []config.Message) *extprocv3.ExternalProcessor {
	return &extprocv3.ExternalProcessor{
		GrpcService:       sidecar(envoy.StreamAdmission),
		ProcessingMode:    processingMode(messages),
		RequestAttributes: []string{envoy.AttributeRoute},
		MessageTimeout:    seconds(sidecarTimeout),
		FailureModeAllow:  true,
	}
}

// bodyLimit collects a request before the router stream hears of it, and answers 413 to one that is
// too large. The listener's buffer is for answers, and the routes' own limit does not hold for
// ext_proc. The slack lets the sidecar refuse, and name the limit, for what is only a little too
// large.
func (b *builder) bodyLimit() *hcmv3.HttpFilter {
	return skipped("millrace.body_limit", &bufferv3.Buffer{MaxRequestBytes: wrapperspb.UInt32(uint32(maxBody(b.config)))}, notPosted())
}

// maxBody is the most that Envoy takes of a body.
func maxBody(c *config.Config) uint64 {
	const slack = 64 << 10
	return min(uint64(c.MaxRequestBytes)+slack, unbuffered)
}

// skipped is a filter that requests of which the predicate holds do not pass.
func skipped(name string, f proto.Message, of *xdsmatcherv3.Matcher_MatcherList_Predicate) *hcmv3.HttpFilter {
	return &hcmv3.HttpFilter{
		Name: name,
		ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: packed(&matchingv3.ExtensionWithMatcher{
			XdsMatcher: &xdsmatcherv3.Matcher{MatcherType: &xdsmatcherv3.Matcher_MatcherList_{MatcherList: &xdsmatcherv3.Matcher_MatcherList{
				Matchers: []*xdsmatcherv3.Matcher_MatcherList_FieldMatcher{{
					Predicate: of,
					OnMatch: &xdsmatcherv3.Matcher_OnMatch{OnMatch: &xdsmatcherv3.Matcher_OnMatch_Action{
						Action: &xdscorev3.TypedExtensionConfig{Name: "skip", TypedConfig: packed(&skipv3.SkipFilter{})},
					}},
				}},
			}}},
			ExtensionConfig: extension(name, f),
		})},
	}
}

// notPosted holds for requests whose body nobody reads: the sidecar answers them by their headers.
func notPosted() *xdsmatcherv3.Matcher_MatcherList_Predicate { return not(matches(":method", "POST")) }

func not(p *xdsmatcherv3.Matcher_MatcherList_Predicate) *xdsmatcherv3.Matcher_MatcherList_Predicate {
	return &xdsmatcherv3.Matcher_MatcherList_Predicate{MatchType: &xdsmatcherv3.Matcher_MatcherList_Predicate_NotMatcher{NotMatcher: p}}
}

func present(header string) *xdsmatcherv3.Matcher_MatcherList_Predicate { return matches(header, ".*") }

func matches(header, regex string) *xdsmatcherv3.Matcher_MatcherList_Predicate {
	return &xdsmatcherv3.Matcher_MatcherList_Predicate{MatchType: &xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate_{
		SinglePredicate: &xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate{
			Input: &xdscorev3.TypedExtensionConfig{Name: header, TypedConfig: packed(&matcherv3.HttpRequestHeaderMatchInput{HeaderName: header})},
			Matcher: &xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate_ValueMatch{ValueMatch: &xdsmatcherv3.StringMatcher{
				MatchPattern: &xdsmatcherv3.StringMatcher_SafeRegex{SafeRegex: &xdsmatcherv3.RegexMatcher{
					EngineType: &xdsmatcherv3.RegexMatcher_GoogleRe2{GoogleRe2: &xdsmatcherv3.RegexMatcher_GoogleRE2{}},
					Regex:      regex,
				}},
			}},
		},
	}}
}

func anyOfHeaders(p ...*xdsmatcherv3.Matcher_MatcherList_Predicate) *xdsmatcherv3.Matcher_MatcherList_Predicate {
	return &xdsmatcherv3.Matcher_MatcherList_Predicate{MatchType: &xdsmatcherv3.Matcher_MatcherList_Predicate_OrMatcher{
		OrMatcher: &xdsmatcherv3.Matcher_MatcherList_Predicate_PredicateList{Predicate: p},
	}}
}
