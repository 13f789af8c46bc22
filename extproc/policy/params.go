package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"millrace/config"
)

// params are what the document says of one policy. A method returns the zero value of a parameter
// that is not there or is wrong, and notes what is wrong.
type params struct {
	policy *config.Policy
	kind   kind
	found  config.Errors
}

func (p *params) errorf(name, format string, args ...any) {
	p.found = append(p.found, config.Error{Path: p.policy.Path() + "." + name, Reason: fmt.Sprintf(format, args...)})
}

// known notes the parameters that the kind does not have.
func (p *params) known() {
	for _, name := range slices.Sorted(maps.Keys(p.policy.Params)) {
		if !slices.Contains(p.kind.params, name) {
			p.errorf(name, "%s has no such parameter; it has %s, and all policies have kind and on_error", p.kind.name, strings.Join(p.kind.params, ", "))
		}
	}
}

func (p *params) boolean(name string) bool {
	value, given := p.policy.Params[name]
	is, ok := value.(bool)
	if given && !ok {
		p.errorf(name, "want true or false")
	}
	return is
}

// text is one line that is not empty.
func (p *params) text(name string) string {
	value, given := p.policy.Params[name]
	s, _ := value.(string)
	if given && (s == "" || strings.ContainsAny(s, "\x00\n\r")) {
		p.errorf(name, "want a text of one line")
		return ""
	}
	return s
}

// count is a whole number from 1 to most.
func (p *params) count(name string, most int) int {
	value, given := p.policy.Params[name]
	n, _ := value.(float64)
	if given && (n != float64(int(n)) || n < 1 || n > float64(most)) {
		p.errorf(name, "want a whole number from 1 to %d", most)
		return 0
	}
	return int(n)
}
