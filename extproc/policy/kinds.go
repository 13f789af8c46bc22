package policy

import (
	"context"

	"millrace/config"
	"millrace/extproc/policy/match"
	"millrace/extproc/texts"
)

// kinds are the policies that there are. A new one is a file and a row here, and its row in
// config.PolicyKinds.
var kinds = []kind{
	{"audit-logger", []string{"dir", "immutable", "log_all_access", "retention_days"}, true, newAuditLogger},
	{"dlp", []string{"detect", "patterns", "reversible", "style"}, false, newDLP},
	{"content-filter", []string{"categories", "lists", "patterns", "severity", "words"}, false, newContentFilter},
	{"prompt-injection", []string{"threshold", "without"}, false, newPromptInjection},
	{"disclaimer", []string{"after", "before"}, false, newDisclaimer},
	{"model-access", []string{"deny_models", "deny_tools", "models", "tools"}, false, newModelAccess},
	{"request-limits", []string{"max_messages", "max_output_tokens", "max_prompt_bytes", "max_prompt_tokens", "max_tools"}, false, newRequestLimits},
	{"expression", []string{"expression"}, false, newExpression},
	{"json-schema", []string{"fenced", "retry", "schema"}, false, newJSONSchema},
	{"webhook", []string{
		"ca_file", "cert_file", "concurrency", "format", "headers", "key_file", "model", "pause", "retries", "signing_env", "signing_file",
		"threshold", "timeout", "token_env", "token_file", "url",
	}, true, newWebhook},
}

// kind is what is known of a policy before it is configured.
type kind struct {
	name   string
	params []string          // beside those that all policies have
	waits  bool              // for something beside the processor: a disk, another host
	make   func(*params) any // what it makes has the abilities below that the kind has
}

// Phase is when a policy is asked.
type Phase = config.Phase

// The phases.
const (
	Input  = config.PhaseInput  // before the request is sent to a provider
	Output = config.PhaseOutput // before the client gets the answer
)

// finder is a policy that looks for patterns in texts. All patterns of a chain are looked for at
// once, and in streams no more of a text is kept back than may still become a match.
type finder interface {
	patterns(Phase) []pattern
	// reads tells whether the policy looks at a text.
	reads(*texts.Text) bool
	// weigh returns what of the matches in one text, which are at least one, calls for the policy's
	// action.
	weigh(*texts.Text, []hit) []hit
}

// pattern is one that a finder looks for.
type pattern struct {
	match.Pattern
	category string
	rule     int // of the policy's own
	// instead is what takes the place of what was found, where the action is to redact.
	instead func(s *Session, found string) string
	// restores: it is no finding but what the policy itself has written, and is always replaced.
	restores bool
}

// asker is a policy that is asked once in each phase, about all of the request or the answer. A
// stream is kept back to its end for it, unless nothing depends on what it says.
type asker interface {
	ask(context.Context, *question) (finding, error)
}

// framer is a policy that puts text around an answer's.
type framer interface {
	around(*Session) (before, after string)
}

// ender is a policy that is told how a request has ended. It must not wait.
type ender interface {
	end(Host, Outcome) error
}

// question is what an asker is asked about.
type question struct {
	Host
	session *Session
	phase   Phase
	doc     *document // its body and texts, as the policies before have left them
}

// finding is what an asker says. The zero value is that there is nothing to say.
type finding struct {
	acts    bool          // the policy's action is called for
	action  config.Action // another one, where the policy says which; ""
	reason  string        // which clients may read
	found   map[string]int
	again   bool           // a blocked answer may be asked for once more
	instead map[int]string // what takes the place of texts
	body    []byte         // what takes the place of all; nil: nothing does
}
