package envoy

import "millrace/schema"

// The headers that pass between client and provider. All others stay here: cookies, proxy
// credentials, the client's own key, forwarded addresses. The sidecar keeps to these lists, and
// Envoy does where it serves without it.
var (
	// RequestHeaders are those of a request that a provider may see.
	RequestHeaders = append([]string{"accept", "content-type", "user-agent", HeaderRequestID}, schema.RequestHeaders()...)
	// ResponseHeaders are those of an answer that a client may see, beside those that a schema's
	// row has for its own clients.
	ResponseHeaders = []string{"content-type", "content-length", "content-language", "date", "retry-after", "cache-control", "x-request-id", "request-id", "x-should-retry"}
)
