package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"millrace/internal/fakellm"
)

// TestConsole: without a word about events in the configuration `millrace run` prints a line for
// each request, for people in a terminal and else as JSON, and nothing with --quiet or where events
// have a place of their own.
func TestConsole(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		events, terminal bool
		args             []string
		want             string // "": no line
	}{
		"in a terminal": {terminal: true, want: `(?m)^\d\d:\d\d:\d\d  200   gpt-4o +a \(server-error\) > b +first token [^,]+, whole [^,]+, tokens 11 / 7\r$`},
		"into a pipe":   {want: `(?m)^{.*"status":200,.*"attempts":\[.*"usage":.*}$`},
		"quiet":         {args: []string{"--quiet"}},
		"with events":   {events: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := openAI("a"), anthropicAI("b")
			g := prepare(t, "", pool("model_choice: any", to("a", a, provider(t, a), "priority: 1", "default_model: gpt-4o"), to("b", b, provider(t, b), "priority: 2", "default_model: sonnet")))
			a.Always(fakellm.Fail(503, "overloaded"))
			b.Always(fakellm.Reply{Answer: &fakellm.Answer{Text: "all is well", Usage: &fakellm.Usage{Input: 11, Output: 7}}})
			if !c.events {
				write(t, g.Config, regexp.MustCompile(`(?m)^events: .*$`).ReplaceAllString(read(t, g.Config), ""))
			}
			said := &buffer{}
			g.stdout = said
			if c.terminal {
				_, its := openTerminal(t, said)
				g.stdout = its
			}
			g.exec(append([]string{"run", "--config", g.Config, "--concurrency", "1"}, c.args...)...)
			g.waitReady()
			g.post("/v1/chat/completions", chatStream).want(200)
			if c.want != "" {
				g.eventually("the line is there", func() error {
					if !regexp.MustCompile(c.want).MatchString(said.String()) {
						return fmt.Errorf("so far: %q", said)
					}
					return nil
				})
			}
			g.stop()
			if lines := strings.Count(said.String(), "\n"); c.want == "" && lines > 0 || c.want != "" && lines != 1 {
				t.Errorf("%d lines were printed: %q", lines, said)
			}
		})
	}
}
