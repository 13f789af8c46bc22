package extproc

import "strings"

// signer puts a target's credential on its requests. A header with a key is one; a signature over
// the request, or a token that has to be fetched, would be another.
type signer interface {
	// sign adds its headers to the request, of which nothing changes any more. It returns what must
	// not come back in an answer, unless the target's configuration says it: that is known already
	// (secretsOf). The error, which is for the log, holds no secret. Calls may overlap.
	sign(r *outgoing) (secrets []string, err error)
}

// outgoing is a request as the provider will get it.
type outgoing struct {
	method, host, path string            // the path with its query
	header             map[string]string // names in lower case; the host is not among them
	body               []byte            // must not be changed
}

// keyHeader is the signer of a key that is sent as it is.
type keyHeader struct{ name, value string }

func (k keyHeader) sign(r *outgoing) ([]string, error) {
	r.header[strings.ToLower(k.name)] = k.value
	return nil, nil
}
