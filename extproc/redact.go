package extproc

import (
	"encoding/base64"
	"net/http"
	"strings"

	"millrace/config"
	"millrace/extproc/llm"
	"millrace/internal/redact"
)

// secretsOf are the credentials that a target is sent: the value of its credential's header, and of
// the configured headers that carry one. A provider quotes what it got.
func secretsOf(t *config.Target) redact.Set {
	values := credentialsIn(t.AuthHeader, t.AuthValue)
	for name, all := range t.Headers {
		if config.IsCredential(name) {
			values = append(values, credentialsIn(name, strings.Join(all, ", "))...)
		}
	}
	return redact.New(values...)
}

// credentialsIn are the secrets in a header: its value, or that of each cookie, and the password of
// HTTP's basic authentication.
func credentialsIn(header, value string) []string {
	if http.CanonicalHeaderKey(header) == "Cookie" {
		return cookiesIn(value)
	}
	secrets := []string{value}
	if encoded, ok := strings.CutPrefix(value, "Basic "); ok {
		if pair, err := base64.StdEncoding.DecodeString(encoded); err == nil {
			_, password, _ := strings.Cut(string(pair), ":")
			secrets = append(secrets, password)
		}
	}
	return secrets
}

func cookiesIn(value string) []string {
	var all []string
	for cookie := range strings.SplitSeq(value, ";") {
		_, v, _ := strings.Cut(cookie, "=")
		all = append(all, v)
	}
	return all
}

// redactError takes a target's secrets out of everything that a client or an event may get of the
// error.
func redactError(secrets redact.Set, e *llm.Error) {
	e.Message = secrets.String(e.Message)
	e.Code = secrets.String(e.Code)
	e.Param = secrets.String(e.Param)
	e.Detail = secrets.JSON(e.Detail)
}
