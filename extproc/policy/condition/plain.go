package condition

import (
	"time"
	_ "time/tzdata" // for images without the system's zones

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// plain refuses what CEL allows and would fail, or could be made slow, when a request is there.
type plain struct{}

func (plain) Name() string { return "millrace.plain" }

func (plain) Validate(_ *cel.Env, _ cel.ValidatorConfig, a *ast.AST, issues *cel.Issues) {
	for _, e := range ast.MatchDescendants(ast.NavigateAST(a), ast.AllMatcher()) {
		switch {
		case e.Kind() == ast.StructKind:
			issues.ReportErrorAtID(e.ID(), "no message can be made here")
		case ours(e) && !isSelected(e):
			issues.ReportErrorAtID(e.ID(), "%s is no value: name one of its fields", e.AsIdent())
		case e.Kind() == ast.CallKind:
			call(e.AsCall(), issues)
		}
	}
}

func ours(e ast.NavigableExpr) bool { return len(fields[e.Type().TypeName()]) > 0 }

// isSelected tells whether a field of the expression is read.
func isSelected(e ast.NavigableExpr) bool {
	parent, ok := e.Parent()
	return ok && parent.Kind() == ast.SelectKind
}

// call looks at what must be constant, for the client could write it else.
func call(c ast.CallExpr, issues *cel.Issues) {
	args := c.Args()
	if len(args) == 0 {
		return
	}
	last := args[len(args)-1] // the pattern in both forms of the call, and the zone
	switch c.FunctionName() {
	case overloads.Matches:
		if last.Kind() != ast.LiteralKind {
			issues.ReportErrorAtID(last.ID(), "the pattern of matches must be a constant: a client could write one that is slow")
		}
	case overloads.TimeGetFullYear, overloads.TimeGetMonth, overloads.TimeGetDayOfYear, overloads.TimeGetDate, overloads.TimeGetDayOfMonth,
		overloads.TimeGetDayOfWeek, overloads.TimeGetHours, overloads.TimeGetMinutes, overloads.TimeGetSeconds, overloads.TimeGetMilliseconds:
		if last.Kind() != ast.LiteralKind {
			issues.ReportErrorAtID(last.ID(), "the time zone must be a constant")
		} else if tried := (types.Timestamp{Time: time.Unix(0, 0)}).Receive(c.FunctionName(), "", []ref.Val{last.AsLiteral()}); types.IsError(tried) {
			issues.ReportErrorAtID(last.ID(), "no time zone: want a name (Europe/Berlin) or an offset (+02:00)")
		}
	}
}
