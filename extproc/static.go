package extproc

import (
	"net/http"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"millrace/extproc/llm"
)

// fixed is the answer of a target that asks nobody.
func (a *attempt) fixed() *extprocv3.ProcessingResponse {
	body, contentType, err := a.fixedBody()
	if err != nil {
		return a.unable(llm.AsError(err))
	}
	return a.instead(http.StatusOK, contentType, body, false)
}

// estimate answers a request to count tokens in the place of a target that cannot.
func (a *attempt) estimate() *extprocv3.ProcessingResponse {
	body, err := a.estimateBody()
	if err != nil {
		return a.unable(llm.AsError(err))
	}
	return a.instead(http.StatusOK, "application/json", body, false, header("x-millrace-estimated", "input_tokens"))
}
