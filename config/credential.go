package config

import "regexp"

// IsCredential tells by its name whether a header carries a credential. The values of a target's
// headers of such a name are secrets: nobody is shown them, and what a provider quotes of them is
// redacted.
func IsCredential(header string) bool { return credentialName.MatchString(header) }

var credentialName = regexp.MustCompile(`(?i)key|token|secret|auth|cookie|passw|credential`)
