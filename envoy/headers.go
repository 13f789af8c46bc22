package envoy

// The headers that pass between client and provider. All others stay here: cookies, proxy credentials, the client's own key,
// forwarded addresses. The sidecar keeps to these lists, and Envoy does where it serves without it.
var (
	// RequestHeaders are those of a request that a provider may see.
	RequestHeaders = []string{"accept", "content-type", "user-agent", "traceparent", "tracestate", HeaderRequestID, "anthropic-beta"}
	// FamilyRequestHeaders among them go to providers of one family alone.
	FamilyRequestHeaders = map[string]string{"anthropic-beta": "anthropic"}
	// ResponseHeaders are those of an answer that a client may see.
	ResponseHeaders = []string{"content-type", "content-length", "content-language", "date", "retry-after", "cache-control", "x-request-id", "request-id", "x-should-retry"}
	// FamilyResponsePrefixes begin those that mean something only to clients of the provider's own family.
	FamilyResponsePrefixes = []string{"x-ratelimit-", "anthropic-ratelimit-", "openai-processing-ms", "openai-version"}
)
