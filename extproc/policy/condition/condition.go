// Package condition asks a question of a request in CEL (https://cel.dev): the optional `when` of
// every policy, and the policy of the kind expression.
//
// An expression is compiled once, and then it is typed: a name that there is none of is refused
// with its position and the names that there are. What an evaluation may cost is bounded, whatever
// the request. A Condition is never changed; its methods may be called at the same time.
//
// Conditions never see secrets: Facts has those headers that the caller puts into it, and the
// caller leaves out those that carry credentials: authorization, x-api-key and what else a client
// can authenticate with, and cookies.
package condition

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/ext"
)

// The bounds of an expression.
const (
	maxLength  = 4096   // characters
	maxDepth   = 100    // of expressions in one another
	maxNodes   = 2000   // of the expression with its macros expanded
	maxPattern = 500    // instructions of one regular expression
	maxCost    = 50_000 // of one evaluation, in CEL's units; a comparison is one
	maxErrors  = 5      // that are said of a wrong one
	maxSaid    = 300    // bytes of an error of an evaluation
)

// Facts is what is known of a request, and later of its answer. What a field is called in CEL is in
// vars.go.
type Facts struct {
	Gateway, Service, Key, Model, Schema, Path, Method string

	ClientAddress string // without a port
	Stream        bool
	Tags          []string
	// Headers are those of the client that may be seen, by their names in lower case.
	Headers          map[string]string
	Bytes            int // of the body
	Texts, TextBytes int // how many texts the request has, and their bytes
	Tools            []string
	MaxTokens        int64 // what the client wants at most; 0: it does not say
	Time             time.Time
	Phase            string // "input" or "output"

	// Answer is the zero value while Phase is "input".
	Answer Answer
}

// Answer is what is known of an answer.
type Answer struct {
	Bytes, TextBytes int
}

// Condition is a compiled expression.
type Condition struct {
	text    string
	program cel.Program
}

// Compile compiles an expression, which must be a bool. The error has one line for each thing that
// is wrong, with its line and column.
func Compile(expr string) (*Condition, error) {
	if strings.TrimSpace(expr) == "" {
		return nil, errors.New("the expression is empty")
	}
	env, err := environment()
	if err != nil {
		return nil, err
	}
	ast, issues := env.Compile(expr)
	if issues.Err() != nil {
		return nil, explain(issues)
	}
	if !ast.OutputType().IsExactType(cel.BoolType) {
		return nil, fmt.Errorf("the expression is of type %s, want bool", ast.OutputType())
	}
	program, err := env.Program(ast, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(maxCost))
	if err != nil {
		return nil, err
	}
	return &Condition{text: expr, program: program}, nil
}

// Holds evaluates the condition. An error says that it has no value for these facts (an index that
// a list does not have, a text that is no address) or that it costs too much; the policy has then
// failed, and on_error says what follows.
func (c *Condition) Holds(f *Facts) (bool, error) {
	value, _, err := c.program.Eval((*activation)(f))
	if err != nil {
		return false, fmt.Errorf("condition: %s", cut(err.Error()))
	}
	holds, ok := value.Value().(bool)
	if !ok {
		return false, fmt.Errorf("condition: it is a %s, want a bool", value.Type().TypeName())
	}
	return holds, nil
}

// cut shortens what CEL says: it may quote a text of the client's.
func cut(text string) string {
	if len(text) <= maxSaid {
		return text
	}
	return strings.ToValidUTF8(text[:maxSaid], "") + "…"
}

// String is the expression as it was written.
func (c *Condition) String() string { return c.text }

// environment is what all conditions are compiled in. To make it takes milliseconds.
var environment = sync.OnceValues(func() (*cel.Env, error) {
	return cel.NewEnv(
		ext.Network(), // cidr("10.0.0.0/8").containsIP(request.client_address)
		declare,
		cel.Variable("request", cel.ObjectType(requestType)),
		cel.Variable("answer", cel.ObjectType(answerType)),
		cel.Variable("phase", cel.StringType),
		cel.ParserExpressionSizeLimit(maxLength),
		cel.ParserRecursionLimit(maxDepth),
		cel.ExpressionNodeLimit(maxNodes),
		cel.RegexProgramSizeLimit(maxPattern),
		cel.DefaultUTCTimeZone(true),
		cel.ExtendedValidations(),
		cel.ASTValidators(cel.ValidateComprehensionNestingLimit(maxNested), plain{}),
	)
})

// maxNested: one list gone through inside another, and no more: request.tools.exists(t, ["a",
// "b"].exists(p, t.startsWith(p))).
const maxNested = 2

func explain(issues *cel.Issues) error {
	var lines []string
	for i, e := range issues.Errors() {
		if i == maxErrors {
			lines = append(lines, fmt.Sprintf("and %d more errors", len(issues.Errors())-i))
			break
		}
		line := fmt.Sprintf("%d:%d: %s", e.Location.Line(), e.Location.Column()+1, strings.TrimSuffix(e.Message, " (in container '')"))
		if strings.HasPrefix(e.Message, "undeclared reference") || strings.HasPrefix(e.Message, "undefined field") {
			line += "; there are " + names()
		}
		lines = append(lines, line)
	}
	return errors.New(strings.Join(lines, "\n"))
}
