package policy

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"millrace/config"
	"millrace/extproc/policy/limits"
)

// params are what the document says of one policy. A method returns the zero value of a parameter
// that is not there or is wrong, and notes what is wrong.
type params struct {
	policy *config.Policy
	path   string         // of what has the values
	values map[string]any // as JSON has them
	kind   string         // of what has the values, for people
	fields []string       // the names of the values that there can be
	found  config.Errors
}

// paramsOf are those of a policy.
func paramsOf(p *config.Policy, k *kind) *params {
	return &params{policy: p, path: p.Path(), values: p.Params, kind: k.name, fields: k.params}
}

func (p *params) errorf(name, format string, args ...any) {
	p.found = append(p.found, config.Error{Path: p.path + "." + name, Reason: fmt.Sprintf(format, args...)})
}

// known notes the parameters that the kind does not have.
func (p *params) known() {
	for _, name := range slices.Sorted(maps.Keys(p.values)) {
		if !slices.Contains(p.fields, name) {
			p.errorf(name, "%s has no such parameter; it has %s", p.kind, strings.Join(p.fields, ", "))
		}
	}
}

func (p *params) boolean(name string) bool {
	value, given := p.values[name]
	is, ok := value.(bool)
	if given && !ok {
		p.errorf(name, "want true or false")
	}
	return is
}

// text is one line that is not empty.
func (p *params) text(name string) string {
	value, given := p.values[name]
	s, _ := value.(string)
	if given && (s == "" || strings.ContainsAny(s, "\x00\n\r")) {
		p.errorf(name, "want a text of one line")
		return ""
	}
	return s
}

// count is a whole number from 1 to most.
func (p *params) count(name string, most int) int {
	value, given := p.values[name]
	n, _ := value.(float64)
	if given && (n != float64(int(n)) || n < 1 || n > float64(most)) {
		p.errorf(name, "want a whole number from 1 to %d", most)
		return 0
	}
	return int(n)
}

// prose is text of any number of lines, up to 16 KiB.
func (p *params) prose(name string) string {
	value, given := p.values[name]
	s, ok := value.(string)
	if given && (!ok || s == "" || len(s) > maxProse || strings.Contains(s, "\x00")) {
		p.errorf(name, "want a text of at most %d bytes", maxProse)
		return ""
	}
	return s
}

const maxProse = 16 << 10

// list is a list of texts that are not empty.
func (p *params) list(name string) []string {
	value, given := p.values[name]
	if !given {
		return nil
	}
	items, ok := value.([]any)
	var all []string
	for i, item := range items {
		s, isText := item.(string)
		if !isText || s == "" {
			p.errorf(fmt.Sprintf("%s[%d]", name, i), "want a text")
			continue
		}
		all = append(all, s)
	}
	if !ok || len(items) == 0 {
		p.errorf(name, "want a list of texts")
	}
	return all
}

// word is one of a few words; the first where the parameter is not there.
func (p *params) word(name string, words ...string) string {
	value, given := p.values[name]
	s, _ := value.(string)
	switch {
	case !given:
		return words[0]
	case !slices.Contains(words, s):
		p.errorf(name, "want %s", strings.Join(words, ", "))
		return words[0]
	}
	return s
}

// names are what an allow list and a deny list leave.
func (p *params) names(allow, deny string) *limits.Names {
	n, err := limits.NewNames(p.list(allow), p.list(deny))
	if err != nil {
		which, reason, _ := strings.Cut(err.Error(), ": ")
		which = strings.Replace(strings.Replace(which, "deny", deny, 1), "allow", allow, 1)
		p.errorf(which, "%s", reason)
		return &limits.Names{}
	}
	return n
}

// each reads a list of objects, of what is called kind, which have these fields and no others.
func (p *params) each(name, kind string, fields []string, read func(*params)) {
	value, given := p.values[name]
	items, ok := value.([]any)
	if given && (!ok || len(items) == 0) {
		p.errorf(name, "want a list of objects with %s", strings.Join(fields, ", "))
	}
	for i, item := range items {
		object, _ := item.(map[string]any)
		one := &params{policy: p.policy, path: fmt.Sprintf("%s.%s[%d]", p.path, name, i), values: object, kind: kind, fields: fields}
		one.known()
		read(one)
		p.found = append(p.found, one.found...)
	}
}

// countOr is a count with a default.
func (p *params) countOr(name string, otherwise, most int) int {
	if n := p.count(name, most); n > 0 {
		return n
	}
	return otherwise
}

// fraction is a number from 0 to 1.
func (p *params) fraction(name string) float64 {
	value, given := p.values[name]
	n, ok := value.(float64)
	if given && (!ok || n < 0 || n > 1) {
		p.errorf(name, "want a number from 0 to 1")
		return 0
	}
	return n
}

// duration is a time such as 500ms.
func (p *params) duration(name string, otherwise, most time.Duration) time.Duration {
	value, given := p.values[name]
	if !given {
		return otherwise
	}
	s, _ := value.(string)
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 || d > most {
		p.errorf(name, "want a time such as 500ms, at most %s", most)
		return otherwise
	}
	return d
}

// texts are texts by name.
func (p *params) texts(name string) map[string]string {
	value, given := p.values[name]
	object, ok := value.(map[string]any)
	if given && !ok {
		p.errorf(name, "want an object of texts")
	}
	all := map[string]string{}
	for _, field := range slices.Sorted(maps.Keys(object)) {
		s, isText := object[field].(string)
		if !isText {
			p.errorf(name+"."+field, "want a text")
		}
		all[field] = s
	}
	return all
}

// secret is what NAME_env or NAME_file refers to; "" without either. A secret is not written into
// the document itself: who reads that would have it.
func (p *params) secret(name string) string {
	variable, file := p.text(name+"_env"), p.text(name+"_file")
	secret, field := "", name+"_env"
	switch {
	case variable != "" && file != "":
		p.errorf(name+"_file", "want %s_env or %s_file, not both", name, name)
		return ""
	case variable != "":
		secret = os.Getenv(variable)
	case file != "":
		field = name + "_file"
		data, err := os.ReadFile(file)
		if err != nil {
			p.errorf(field, "%v", err)
			return ""
		}
		secret = string(data)
	default:
		return ""
	}
	if secret = strings.TrimSpace(secret); secret == "" || strings.ContainsAny(secret, "\x00\n\r") {
		p.errorf(field, "there is no secret of one line")
		return ""
	}
	return secret
}
