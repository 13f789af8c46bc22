package condition

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// chat is a request as a client of a team sends it.
var chat = Facts{
	Gateway: "main", Service: "chat", Key: "team-a", Model: "gpt-5-mini", Schema: "openai.chat", Path: "/v1/chat/completions",
	Method: "POST", ClientAddress: "10.1.2.3", Stream: true, Tags: []string{"eu", "internal"},
	Headers: map[string]string{"x-team": "search", "x-empty": ""}, Bytes: 2048, Texts: 3, TextBytes: 1500,
	Tools: []string{"get_weather", "run_sql"}, MaxTokens: 400, Time: time.Date(2026, 11, 29, 6, 30, 0, 0, time.UTC), Phase: "output",
	Answer: Answer{Bytes: 512, TextBytes: 300},
}

// TestHolds: what an operator would write holds or does not.
func TestHolds(t *testing.T) {
	for _, c := range []struct {
		expr string
		want bool
	}{
		{`true`, true},
		{`request.gateway == "main" && request.service == "chat"`, true},
		{`request.key == "team-a"`, true},
		{`request.key in ["team-b", "team-c"]`, false},
		{`request.model.startsWith("gpt-5") && !request.model.endsWith("-mini")`, false},
		{`request.model.matches("^gpt-[0-9]+(-mini)?$")`, true},
		{`matches(request.model, "^claude")`, false},
		{`request.schema == "openai.chat" && request.path.contains("/chat/") && request.method == "POST"`, true},
		{`cidr("10.0.0.0/8").containsIP(request.client_address)`, true},
		{`request.stream`, true},
		{`"eu" in request.tags`, true},
		{`request.tags.exists(t, t.startsWith("int"))`, true},
		{`request.headers["x-team"] == "search"`, true},
		{`request.headers["X-Team"] == "search"`, true},
		{`request.headers["x-" + request.service] == ""`, true},
		{`request.headers["x-other"] == ""`, true},
		{`"x-other" in request.headers`, false},
		{`"X-Empty" in request.headers`, true},
		{`has(request.headers.other)`, false},
		{`request.headers.exists(name, name.startsWith("x-t"))`, true},
		{`size(request.headers) == 2`, true},
		{`request.headers == {"x-team": "search", "x-empty": ""} && request.headers == request.headers`, true},
		{`request.bytes > 1024 && request.text_bytes <= 1500 && request.texts == 3`, true},
		{`request.tools.all(t, t in ["get_weather", "run_sql"]) && "run_sql" in request.tools`, true},
		{`request.tools.exists(t, ["get_", "set_"].exists(p, t.startsWith(p)))`, true},
		{`request.max_tokens > 1000 || request.max_tokens == 0`, false},
		{`request.time.getHours() < 8 && request.time.getDayOfWeek() == 0`, true},
		{`request.time.getHours("Europe/Berlin") == 7 && request.time.getHours("-02:30") == 4`, true},
		{`request.time > timestamp("2026-01-01T00:00:00Z")`, true},
		{`phase == "output" && answer.bytes == 512 && answer.text_bytes < 301`, true},
		{`phase == "input" ? request.bytes > 0 : answer.bytes > 1000`, false},
	} {
		condition, err := Compile(c.expr)
		if err != nil {
			t.Errorf("%s: %v", c.expr, err)
			continue
		}
		if got, err := condition.Holds(&chat); got != c.want || err != nil {
			t.Errorf("%s: %v, %v; want %v", c.expr, got, err, c.want)
		}
		if condition.String() != c.expr {
			t.Errorf("%s is said to be %s", c.expr, condition)
		}
	}
}

// TestNothingKnown: every field has a value in the zero Facts, so a fact that is missing is no
// failure of a policy.
func TestNothingKnown(t *testing.T) {
	for kind, of := range fields {
		variable := map[string]string{requestType: "request", answerType: "answer"}[kind]
		for _, f := range of {
			expr := fmt.Sprintf("%[1]s.%[2]s == %[1]s.%[2]s", variable, f.name)
			condition, err := Compile(expr)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := condition.Holds(&Facts{}); !got || err != nil {
				t.Errorf("%s: %v, %v", expr, got, err)
			}
		}
	}
}

// TestRefused: what cannot be evaluated is refused when it is compiled, and the error says where
// and what.
func TestRefused(t *testing.T) {
	nested := func(open, close string, n int) string {
		return strings.Repeat(open, n) + "true" + strings.Repeat(close, n)
	}
	for name, c := range map[string]struct {
		expr string
		want []string // parts of the error
	}{
		"nothing":                   {" \n", []string{"the expression is empty"}},
		"no expression":             {"request.model ==", []string{"1:17: Syntax error"}},
		"no bool":                   {"request.model", []string{"of type string, want bool"}},
		"a number":                  {"request.bytes + 1", []string{"of type int, want bool"}},
		"a list that may be a bool": {"dyn(request.tags)", []string{"want bool"}},
		"a wrong field":             {"true &&\n  request.modle == 'x'", []string{"2:10: undefined field 'modle'", "; there are phase, request.gateway, ", "request.model, ", "answer.text_bytes"}},
		"a wrong name":              {"requst.model == 'x'", []string{"1:1: undeclared reference to 'requst'", "; there are phase, "}},
		"two of them":               {"requst.model == 'x' || request.modle == 'x'", []string{"requst", "\n1:31: undefined field 'modle'"}},
		"many errors":               {"a || b || c || d || e || f || g", []string{"\nand 2 more errors"}},
		"a wrong type":              {"request.bytes == '1'", []string{"1:15: found no matching overload for '_==_' applied to '(int, string)'"}},
		"a wrong function":          {"request.model.startswith('x')", []string{"undeclared reference to 'startswith'"}},
		"an object":                 {"request == request", []string{"1:1: request is no value: name one of its fields"}},
		"an object, hidden":         {"[answer].exists(a, a.bytes > 1)", []string{"answer is no value"}},
		"an object in dyn":          {"dyn(request).anything == 1", []string{"request is no value"}},
		"a message":                 {"millrace.Request{model: 'x'}.model == 'x'", []string{"no message can be made here"}},
		"a message of protobuf":     {"google.protobuf.BoolValue{value: true} == true", []string{"no message can be made here"}},
		"a pattern of the client's": {"request.model.matches(request.headers['x'])", []string{"the pattern of matches must be a constant"}},
		"the same, as a function":   {"matches('aaa', request.key)", []string{"the pattern of matches must be a constant"}},
		"a wrong pattern":           {"request.model.matches('(')", []string{"1:23: invalid matches argument"}},
		"a large pattern":           {"request.model.matches('(a{25}b{25}){30}')", []string{"regex"}},
		"a wrong time":              {"request.time > timestamp('tomorrow')", []string{"invalid timestamp argument"}},
		"a wrong zone":              {"request.time.getHours('Nowhere/Nothing') == 1", []string{"1:23: no time zone"}},
		"a wrong offset":            {"request.time.getHours('+25:00') == 1", []string{"1:23: no time zone"}},
		"a zone of the client's":    {"request.time.getHours(request.headers['x']) == 1", []string{"the time zone must be a constant"}},
		"a long one":                {strings.Repeat("true && ", maxLength/8) + "true", []string{"size"}},
		"a deep one":                {nested("(", ")", maxDepth+1), []string{"recursion"}},
		"a deep one of nots":        {nested("!(", ")", maxDepth+1), []string{"recursion"}},
		"three loops":               {"request.tools.all(a, request.tools.all(b, request.tools.all(c, a + b != c)))", []string{"nesting"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Compile(c.expr)
			if err == nil {
				t.Fatal("it is compiled")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v\nwant %q", err, want)
				}
			}
		})
	}
}

// TestFails: what has no value for a request, or costs too much for it, is an error and not false.
func TestFails(t *testing.T) {
	many := chat
	for i := range 20_000 {
		many.Tools = append(many.Tools, fmt.Sprintf("tool-%d", i))
	}
	many.Tools[len(many.Tools)-1] = strings.Repeat("a", 1<<20)
	for name, c := range map[string]struct {
		expr  string
		facts *Facts
		want  string
	}{
		"an index":         {`request.tools[5] == "x"`, &chat, "index out of bounds"},
		"no address":       {`cidr("10.0.0.0/8").containsIP(request.client_address)`, &Facts{}, "parse error"},
		"a division":       {`request.bytes / request.texts > 1`, &Facts{}, "division by zero"},
		"loops in a loop":  {`request.tools.all(a, request.tools.all(b, a != b + "x"))`, &many, "cost limit exceeded"},
		"a large text":     {`request.tools.exists(t, t.matches("(a|aa)+b"))`, &many, "cost limit exceeded"},
		"one that grows":   {`request.tools.map(t, request.tools).size() == 1 || request.tools.map(t, request.tools.map(u, t + u)).size() == 3`, &many, "cost limit exceeded"},
		"a long text":      {`ip(request.model) == ip("::1")`, &Facts{Model: strings.Repeat("x", 1000)}, "…"},
		"another type yet": {`dyn(request.model) > 1`, &chat, "no such overload"},
	} {
		t.Run(name, func(t *testing.T) {
			condition, err := Compile(c.expr)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := condition.Holds(c.facts); got || err == nil || !strings.Contains(err.Error(), c.want) || len(err.Error()) > maxSaid+20 {
				t.Errorf("%v, %v; want %q", got, err, c.want)
			}
		})
	}
}

// TestLargeRequest: ordinary questions are within the bounds for the largest requests that there
// are.
func TestLargeRequest(t *testing.T) {
	large := chat
	large.Tools = slices.Repeat([]string{"get_weather"}, 2000)
	for _, expr := range []string{
		`"run_sql" in request.tools`, `request.tools.exists(t, t.startsWith("run_"))`, `request.tools.all(t, t in ["get_weather", "run_sql", "c", "d"])`,
	} {
		condition, err := Compile(expr)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := condition.Holds(&large); err != nil {
			t.Errorf("%s: %v", expr, err)
		}
	}
}

// TestAtOnce: one condition is asked by many requests at the same time.
func TestAtOnce(t *testing.T) {
	condition, err := Compile(`request.model == "m7" && request.headers["x"].matches("^a+$") && request.tools.exists(t, t == "u")`)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			f := Facts{Model: fmt.Sprintf("m%d", i), Headers: map[string]string{"x": "aaa"}, Tools: []string{"t", "u"}}
			for range 100 {
				if got, err := condition.Holds(&f); got != (i == 7) || err != nil {
					t.Errorf("request %d: %v, %v", i, got, err)
				}
			}
		})
	}
	wg.Wait()
}

// TestAllocations: a condition is asked for each request, and of several policies.
func TestAllocations(t *testing.T) {
	condition, err := Compile(`request.key in ["team-a", "team-b"] && request.bytes > 1024 && request.model.startsWith("gpt-") && request.headers["x-team"] != ""`)
	if err != nil {
		t.Fatal(err)
	}
	const most = 20
	if n := testing.AllocsPerRun(100, func() { condition.Holds(&chat) }); n > most {
		t.Errorf("%v allocations, want at most %d", n, most)
	}
}

// FuzzCompile: no expression makes Compile or Holds panic, and what compiles has a value or an
// error.
func FuzzCompile(f *testing.F) {
	for _, expr := range []string{
		`request.headers["x"] == "y"`, `request.tools.exists(t, t.matches("a"))`, `has(request.headers.x)`, `phase == "input"`,
		`request.headers.map(h, h)[0] == "x"`, `{"a": request.headers}["a"]["x-team"] == ""`, `type(request.headers) == map`,
		`request.time - duration("1h") < request.time`, `cidr("10.0.0.0/8").ip() == ip("10.0.0.0")`, `request.headers in [request.headers]`,
	} {
		f.Add(expr)
	}
	f.Fuzz(func(t *testing.T, expr string) {
		condition, err := Compile(expr)
		if err != nil {
			return
		}
		if _, err := condition.Holds(&chat); err != nil && strings.Contains(err.Error(), "internal error") {
			t.Error(err)
		}
	})
}

func BenchmarkHolds(b *testing.B) {
	for _, c := range []struct{ name, expr string }{
		{"compare", `request.model == "gpt-5-mini"`},
		{"header", `request.headers["x-team"] == "search"`},
		{"typical", `request.key in ["team-a", "team-b"] && request.bytes > 1024 && request.model.startsWith("gpt-") && request.headers["x-team"] != ""`},
		{"zone", `request.time.getHours("Europe/Berlin") >= 7`},
		{"pattern", `request.model.matches("^gpt-[0-9]+(-mini)?$")`},
		{"loop", `request.tools.exists(t, t.startsWith("run_"))`},
	} {
		b.Run(c.name, func(b *testing.B) {
			condition, err := Compile(c.expr)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if holds, err := condition.Holds(&chat); !holds || err != nil {
					b.Fatal(holds, err)
				}
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	for b.Loop() {
		if _, err := Compile(`request.key in ["team-a", "team-b"] && request.headers["x-team"] != ""`); err != nil {
			b.Fatal(err)
		}
	}
}
