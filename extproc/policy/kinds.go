package policy

import "context"

// kinds are the policies that there are. A new one is a file and a row here, and its name in
// config.PolicyKinds.
var kinds = []kind{
	{"audit-logger", []string{"dir", "immutable", "log_all_access", "retention_days"}, []Phase{Input, End}, newAuditLogger},
}

// kind is what is known of a policy before it is configured.
type kind struct {
	name   string
	params []string // beside those that all policies have
	phases []Phase
	make   func(*params) any // which has the method of each phase
}

// Phase is when a policy is asked.
type Phase string

// The phases that some kind has.
const (
	Input Phase = "input" // before the request is sent to a provider
	End   Phase = "end"   // when its event is recorded
)

type inputPolicy interface {
	// input returns when the request may go out. An error is a failure of the policy's: on_error
	// says what becomes of the request.
	input(context.Context, Host, Request) error
}

type endPolicy interface {
	// end must not wait.
	end(Host, Outcome) error
}
