package extproc

import (
	"net/http"
	"strings"

	"millrace/config"
	"millrace/extproc/llm"
)

// outcome is what a failure of an attempt means: whether another target is asked, what the client
// is told, and what the operator has to see to.
type outcome struct {
	x      *exchange
	target *target
	model  string // that the target was asked for
}

// statusCapacity is Groq's for flex processing without capacity
// (https://console.groq.com/docs/errors).
const statusCapacity = 498

// condition is what retry.on calls the failure; "" is the request's own fault, which no other
// target would mend.
func (o outcome) condition(e *llm.Error) string {
	switch s := o.meaning(e); {
	case s == http.StatusUnauthorized, s == http.StatusPaymentRequired, s == http.StatusForbidden:
		return config.OnCredential
	case s == http.StatusNotFound && o.lacksModel(e):
		return config.OnModel
	case s == http.StatusRequestTimeout, e.Type == llm.ErrTimeout:
		return config.OnNoAnswer
	case s == http.StatusTooManyRequests, s == statusCapacity:
		return config.OnRateLimit
	case s == http.StatusLoopDetected: // a request that came back would come back again
	case s == http.StatusTooEarly, s >= 500, s < 400:
		return config.OnServerError
	}
	return ""
}

// meaning is the failure's status, as far as it is the gateway's affair: a refusal of a credential
// that the client has sent itself is the request's own fault.
func (o outcome) meaning(e *llm.Error) int {
	s := e.HTTPStatus()
	switch s {
	case http.StatusUnauthorized, http.StatusPaymentRequired, http.StatusForbidden:
		if o.sentClientsKey() {
			return http.StatusBadRequest
		}
	}
	return s
}

// sentClientsKey tells whether the target was asked with a credential of the client's own
// (forward_headers).
func (o outcome) sentClientsKey() bool {
	for name := range o.x.forward {
		if config.IsCredential(name) && o.target.config.Forwards(name) {
			return true
		}
	}
	return false
}

// lacksModel tells whether a 404 is for the model that was asked for, and not for the path.
// Providers say so in many ways: a code (OpenAI, Azure), "model: NAME" (Anthropic), "model 'NAME'
// not found" (Ollama), "The model `NAME` does not exist" (vLLM).
func (o outcome) lacksModel(e *llm.Error) bool {
	said := strings.ToLower(e.Code + " " + e.Message)
	return strings.Contains(said, "model") || strings.Contains(said, "deployment") || o.model != "" && strings.Contains(said, strings.ToLower(o.model))
}

// trouble is what the failure says of the target that an operator has to see to; "" when it is
// nothing of that kind.
func (o outcome) trouble(e *llm.Error) string {
	switch s := o.meaning(e); {
	case s == http.StatusUnauthorized:
		return "its key is refused"
	case s == http.StatusPaymentRequired:
		return "its account has no credit"
	case s == http.StatusForbidden:
		return "it refuses access"
	case s == http.StatusNotFound && o.lacksModel(e):
		return "it has no model " + o.model
	case s == http.StatusRequestTimeout:
		return "it says that requests take too long to arrive"
	case s == http.StatusTooEarly:
		return "it is not ready yet"
	case s == statusCapacity:
		return "it has no capacity"
	}
	return ""
}

// forClient is what the client is forClient of a failure: the failure itself, unless that is
// between gateway and provider. A client that reads that a key is wrong looks at its own.
func (o outcome) forClient(e *llm.Error) *llm.Error {
	id := o.target.config.ID
	switch s := o.meaning(e); {
	case s == http.StatusUnauthorized:
		return llm.Errorf(llm.ErrBadGateway, "target %q: the provider does not accept the gateway", id)
	case s == http.StatusPaymentRequired:
		return llm.Errorf(llm.ErrBadGateway, "target %q: the gateway's account has no credit", id)
	case s == http.StatusForbidden: // its words may be about the input (OpenRouter)
		return llm.Errorf(llm.ErrBadGateway, "target %q: the provider refuses the gateway's request: %s", id, e.Message)
	case s == http.StatusNotFound && o.lacksModel(e):
		missing := llm.Errorf(llm.ErrBadGateway, "target %q: the provider has no model %q", id, o.model)
		missing.Code = "model_not_found"
		return missing
	case s == http.StatusRequestTimeout, s == http.StatusTooEarly, s == statusCapacity:
		busy := llm.Errorf(llm.ErrUnavailable, "target %q: %s", id, e.Message)
		busy.RetryAfter = e.RetryAfter
		return busy
	}
	return o.x.unless(o, e)
}

// earlier is the first failure of a request that another target was asked after.
type earlier struct {
	told    *llm.Error
	passing bool // it goes by itself: to ask again later may help
}

// failed notes why another target is asked after this one.
func (x *exchange) failed(condition string, told *llm.Error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.before == nil {
		x.before = &earlier{told: told, passing: condition != config.OnCredential && condition != config.OnModel}
	}
}

// unless is the failure that an attempt ends the request with: e, unless it says that the request
// is at fault and an earlier target failed in a way that passes. The client is to ask again then,
// and not to give up.
func (x *exchange) unless(o outcome, e *llm.Error) *llm.Error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if o.condition(e) == "" && x.before != nil && x.before.passing {
		return x.before.told
	}
	return e
}

// unable is the failure that a request ends with which this target cannot be told: that of the
// first target, if one was asked.
func (o outcome) unable(e *llm.Error, attempt int) *llm.Error {
	o.x.mu.Lock()
	defer o.x.mu.Unlock()
	switch {
	case attempt == 1:
		return e
	case o.x.before != nil:
		return o.x.before.told
	}
	return llm.Errorf(llm.ErrUnavailable, "no target could answer")
}
