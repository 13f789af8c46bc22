package extproc

import (
	"net/http"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"millrace/extproc/llm"
)

// unasked answers in the place of a target that is not asked.
func (a *attempt) unasked(answer func() (body []byte, contentType string, err error), extra ...*corev3.HeaderValueOption) *extprocv3.ProcessingResponse {
	body, contentType, err := answer()
	if err != nil {
		return a.unable(llm.AsError(err))
	}
	return a.instead(http.StatusOK, contentType, body, false, extra...)
}
