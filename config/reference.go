package config

import (
	"regexp"
	"strings"

	millracev1 "millrace/proto/millrace/v1"
)

// The spellings in which other products refer to a key that is kept elsewhere. Taken as they stand
// they would be sent as the key.
var (
	// envReferences have the name of an environment variable as their group.
	envReferences = []*regexp.Regexp{
		regexp.MustCompile(`(?i)^(?:os\.environ/|process\.env\.|\$?env(?:\.|:/*))([a-z_][a-z0-9_]*)$`), // LiteLLM, Node, Bifrost, PowerShell
		regexp.MustCompile(`(?i)^(?:os\.)?(?:get)?env(?:iron)?[(\[]["']?([a-z_][a-z0-9_]*)["']?[)\]]$`),
		regexp.MustCompile(`(?i)\$\{\s*(?:env[.:])?([a-z_][a-z0-9_]*)[^}]*\}`), // shells, Compose, LibreChat
		regexp.MustCompile(`(?i)\{\{[^}]*?([a-z_][a-z0-9_]*)["']?\s*\}\}`),     // templates
		regexp.MustCompile(`(?i)^\{(?:\$|env[.:])([a-z_][a-z0-9_]*)\}$`),       // Caddy
		regexp.MustCompile(`(?i)^(?:\$\(?|%)([a-z_][a-z0-9_]*)[)%]?$`),         // shells, Kubernetes, Windows
		regexp.MustCompile(`^([A-Z][A-Z0-9_]*_(?:KEY|TOKEN))$`),                // the name alone
	}
	fileReference  = regexp.MustCompile(`^(?:\{?file:(?://)?|@)(/[^}]+)\}?$`)
	storeReference = regexp.MustCompile(`^(?:[a-z][a-z0-9+-]*(?:secret|vault|ssm|keystore)[a-z0-9+-]*|vault|secrets?|op|gcpsm|ssm)://|^vault:|^arn:aws:|^projects/[^/]+/secrets/`)
	scheme         = regexp.MustCompile(`^(?i:bearer|basic|token)\s+`)
)

// referred says what to write in place of a value that is another product's way to refer to a
// secret; "" when it is none. What is written has to hold also the scheme before the reference
// ("Bearer "), of which beside tells.
func referred(value string) (write, beside string) {
	value = strings.TrimSpace(value)
	bare := scheme.ReplaceAllString(value, "")
	if bare != value {
		beside = ", and let that hold the whole value, " + strings.TrimSpace(scheme.FindString(value)) + " included"
	}
	for _, r := range envReferences {
		if m := r.FindStringSubmatch(bare); m != nil {
			return "{env: " + m[1] + "}", beside
		}
	}
	if m := fileReference.FindStringSubmatch(bare); m != nil {
		return "{file: " + m[1] + "}", beside
	}
	if storeReference.MatchString(bare) {
		return "{env: NAME} or {file: PATH}", beside
	}
	return "", ""
}

// secret refuses a literal that only names where a secret is, and a variable that is named with the
// signs around it. The value itself is not repeated: it may be a key all the same.
func (v *validation) secret(path string, s *millracev1.Secret) {
	switch source := s.GetSource().(type) {
	case *millracev1.Secret_Literal:
		if write, beside := referred(source.Literal); write != "" {
			v.errorf(path, "is taken as it stands, and looks like another product's reference to a secret: write %s%s", write, beside)
		}
	case *millracev1.Secret_Env:
		if write, _ := referred(source.Env); write != "" && write != "{env: "+source.Env+"}" {
			v.errorf(path+".env", "want the name of the variable alone: write %s", write)
		}
	}
}

// headerReference refuses a plain header that refers to something: nothing is looked up for it.
func (v *validation) headerReference(path, name, value string) {
	if write, beside := referred(value); write != "" {
		v.errorf(path, "is sent as it stands, and looks like a reference: a credential is written credentials: {header_name: %s, header_value: %s}%s", name, write, beside)
	}
}
