package anthropic

import (
	"net/http"

	"millrace/extproc/llm"
)

const (
	versionHeader = "Anthropic-Version"
	// noSamplingVersion is the first version without temperature, top_p and top_k: they are refused
	// even at their default values. https://docs.anthropic.com/en/api/versioning
	noSamplingVersion = "2026-10-21"
)

var defaultVersion = row.Headers["anthropic-version"]

// targetVersion is the API version that the target will be asked for: what its operator configured,
// whatever the client itself was written for.
func targetVersion(o llm.Options) string {
	if v := o.Headers.Get(versionHeader); v != "" {
		return v
	}
	return defaultVersion
}

// takesSampling tells whether a version has the sampling parameters. Versions are dates; those of
// other hosts ("bedrock-2023-05-31") are all of the first kind.
func takesSampling(version string) bool {
	return version < noSamplingVersion || version[0] > '9'
}

// callHeaders are the headers that the schema needs and the target's own configuration does not
// already set.
func callHeaders(o llm.Options) http.Header {
	if o.Headers.Get(versionHeader) != "" {
		return nil
	}
	return http.Header{versionHeader: {defaultVersion}}
}
