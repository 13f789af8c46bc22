package anthropic

import "strings"

// traits are the differences between Claude models that decide whether a request is refused. They
// follow from the family and the version in the name, so that a model of next month is treated like
// its newest known relative.
type traits struct {
	adaptive   bool  // thinks adaptively, steered by output_config.effort; takes no token budget
	budget     bool  // thinks when given a token budget
	xhigh      bool  // knows the effort "xhigh"
	sampling   bool  // takes temperature, top_p and top_k
	oneSampler bool  // refuses temperature beside top_p
	forced     bool  // can be made to call a tool
	structured bool  // keeps to a schema: output_config.format, and strict tools
	output     int64 // the most tokens of an answer; 0: not known
	turn       int64 // how many are asked for where nobody says: what an agent's turn may take
	off        thinkingOff
}

// thinkingOff says how a model is told not to think.
type thinkingOff string

const (
	offByDefault    thinkingOff = ""
	offDisabled     thinkingOff = "disabled"
	offBetweenTools thinkingOff = "between_tools" // no thinking up front, which is the least this model does
	offNever        thinkingOff = "never"         // it always thinks; low effort is the nearest
)

// unknownModel is what a name that is not Claude's is taken for: an alias, or another vendor's
// model behind the same schema. It gets what the first version of the API took.
var unknownModel = traits{budget: true, sampling: true, forced: true, structured: true, turn: 8192, off: offDisabled}

// traitsOf reads a model's name, in any host's spelling: claude-opus-4-6,
// claude-3-7-sonnet-20250219, us.anthropic.claude-haiku-4-5-20251001-v1:0,
// anthropic/claude-4.7-opus, claude-sonnet-4-5@20250929.
//
//   - budgets since 3.7, adaptive instead since 4.6:
//     https://docs.anthropic.com/en/docs/build-with-claude/adaptive-thinking
//   - no sampling parameters, and effort xhigh, since 4.7; not both temperature and top_p since
//     4.1: https://docs.anthropic.com/en/docs/about-claude/models/migration-guide
//   - structured output since 4.5, and in Opus 4.1:
//     https://docs.anthropic.com/en/docs/build-with-claude/structured-outputs
//   - the longest answers: https://docs.anthropic.com/en/docs/about-claude/models/overview ("max
//     output")
//   - fable, mythos and opus 5.5 always think, sonnet 5.5 at least between tools; since 5.1 they
//     cannot be made to call a tool:
//     https://platform.claude.com/docs/en/models/opus-5-5/whats-new-opus-5-5
func traitsOf(model string) traits {
	family, version := claudeName(model)
	if family == "" {
		return unknownModel
	}
	always := family == "fable" || family == "mythos"
	if version == 0 && !always {
		return unknownModel
	}
	if version == 0 {
		version = 500 // claude-mythos-preview
	}
	t := traits{
		adaptive:   version >= 406,
		budget:     version >= 307 && version < 406,
		xhigh:      version >= 407,
		sampling:   version < 407,
		oneSampler: version >= 401,
		forced:     version < 501 || family == "haiku",
		structured: version >= 405 || family == "opus" && version >= 401,
	}
	t.output, t.turn = outputOf(family, version)
	switch {
	case always, family == "opus" && version >= 505:
		t.off = offNever
	case family == "sonnet" && version >= 505:
		t.off = offBetweenTools
	case version >= 500:
		t.off = offDisabled
	}
	return t
}

// agentTurn is what an agent's turn may take, thinking not counted: the whole of a file, or of a
// tool call.
const agentTurn = 32000

// outputOf is the most tokens of an answer, and how many are asked for where nobody says.
func outputOf(family string, version int) (most, turn int64) {
	switch {
	case version < 305:
		most = 4096
	case version < 307:
		most = 8192
	case family == "opus" && version < 405:
		most = 32000
	case version < 406 || family == "haiku":
		most = 64000
	default:
		most = 128000
	}
	return most, min(most, agentTurn)
}

// claudeName finds the family and the version (major×100 + minor; 0 when there is none) in a
// model's name. Dates and other numbers of more than two digits are no version.
func claudeName(model string) (family string, version int) {
	_, rest, ok := strings.Cut(strings.ToLower(model), "claude")
	if !ok {
		return "", 0
	}
	words := strings.FieldsFunc(rest, func(r rune) bool { return strings.ContainsRune("-._:@/", r) })
	family = "claude"
	numbers := 0
	for _, w := range words {
		n, ok := shortNumber(w)
		switch {
		case ok && numbers == 0:
			version, numbers = n*100, 1
		case ok && numbers == 1:
			version, numbers = version+n, 2
		case numbers == 1:
			numbers = 2 // the minor version stands directly behind the major one or not at all
		}
		switch w {
		case "opus", "sonnet", "haiku", "fable", "mythos":
			family = w
		}
	}
	return family, version
}

func shortNumber(s string) (int, bool) {
	if len(s) == 0 || len(s) > 2 {
		return 0, false
	}
	n := 0
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, true
}
