package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"millrace/config"
)

type explainCommand struct {
	Config string `help:"The configuration file, YAML or JSON. With --data-dir it may be left out, as for run."`
	Rule   string `help:"One rule, as the output names it, or all of one path; every rule when not given." placeholder:"RULE"`
	checkFlags
}

// Run prints the plans of a configuration: for each rule how its requests are tried, which clocks
// bound them, and which messages the sidecar is asked for and why.
func (c *explainCommand) Run(out io.Writer) error {
	if c.Config == "" && c.DataDir == "" {
		return errors.New("which configuration? --config FILE says it, or --data-dir that of a gateway")
	}
	_, served, err := c.load(c.Config)
	if err != nil {
		return err
	}
	var names []string
	text, found := &strings.Builder{}, false
	for _, g := range served.Gateways {
		for _, r := range g.Rules {
			names = append(names, nameOf(served, g, r))
			if c.Rule != "" && c.Rule != r.Path && c.Rule != nameOf(served, g, r) {
				continue
			}
			if found {
				fmt.Fprintln(text)
			}
			found = true
			fmt.Fprintf(text, "rule %s\n", nameOf(served, g, r))
			explain(text, g, r)
		}
	}
	switch {
	case len(names) == 0:
		return errors.New("there is no rule")
	case !found:
		return fmt.Errorf("there is no rule %q; there are:\n  %s", c.Rule, strings.Join(names, "\n  "))
	}
	_, err = io.WriteString(out, text.String())
	return err
}

// nameOf is what a rule is called here. Rules have no names; what they ask for tells them apart.
func nameOf(c *config.Config, g *config.Gateway, r *config.Rule) string {
	name := r.String()
	if len(c.Gateways) > 1 {
		name += " of gateway " + g.Name
	}
	return name
}

func explain(out io.Writer, g *config.Gateway, r *config.Rule) {
	p := r.Plan
	line := func(name, format string, args ...any) {
		fmt.Fprintf(out, "  %-14s %s\n", name+":", fmt.Sprintf(format, args...))
	}
	if len(r.Policies)+len(r.Shadow) > 0 {
		line("policies", "%s", policies(r))
	}
	line("attempts", "%s", attempts(p.Attempts))
	line("whole answer", "%s", clock(p.Whole, p.Attempts, p.Request, p.PerTry))
	line("stream", "%s", clock(p.Stream, p.Attempts, 0, 0))
	if p.Bare == config.BareAlways {
		plain := fmt.Sprintf("a post to …%s, which Envoy then serves by itself (inspect: headers)", r.BareSchema().Conversation())
		if len(p.Keys) == 0 {
			fmt.Fprintf(out, "  no stream for %s\n", plain)
		} else {
			needs(out, "router stream, once for "+plain, p.Keys)
		}
		fmt.Fprintln(out, "  and for whatever else comes:")
	}
	needs(out, "admission stream, once for a request that is large, then with the headers alone, or does not say its size", p.Admission)
	reads := "router stream, once for a request"
	if p.Joined {
		reads = "upstream stream of the first attempt, which reads the request"
	}
	needs(out, reads, p.Router)
	for _, u := range p.Upstreams {
		needs(out, fmt.Sprintf("upstream stream, once for an attempt at %s", upstreamName(g, u.Upstream)), u.Needs)
		for _, t := range u.Upstream.Targets {
			fmt.Fprintf(out, "    target %s: %s\n", t.ID, limits(g, u.Upstream, t))
		}
	}
}

// policies are the rule's, in the order in which they are asked.
func policies(r *config.Rule) string {
	var said []string
	for _, p := range slices.Concat(r.Policies, r.Shadow) {
		name := p.Name
		if p.Kind != p.Name {
			name += " (" + p.Kind + ")"
		}
		if p.Observe {
			name += ", which observes"
		}
		said = append(said, name)
	}
	return strings.Join(said, "; ")
}

// upstreamName is as the operator wrote it.
func upstreamName(g *config.Gateway, u *config.Upstream) string {
	if u.For != nil {
		return upstreamName(g, u.For) + ", its targets in another order"
	}
	return strings.TrimPrefix(u.Name, g.Name+"/")
}

func attempts(a config.Attempts) string {
	if a.Most == 1 {
		return "1"
	}
	said := []string{fmt.Sprintf("at most %d, %d at a priority before the next", a.Most, a.PerPriority)}
	if a.Budgeted {
		said = append(said, "fewer when many are under way (budget_percent)")
	}
	if a.Hedge > 0 {
		return strings.Join(append(said, "another target is asked beside one that is late"), "; ")
	}
	said = append(said, "after "+strings.Join(a.On, ", "))
	said = append(said, fmt.Sprintf("%s apart and longer each time, up to %s", short(a.Backoff), short(a.MaxInterval)))
	if a.RetryAfter > 0 {
		said = append(said, fmt.Sprintf("or as long as the target's retry-after, up to %s", short(a.RetryAfter)))
	}
	return strings.Join(said, "; ")
}

func clock(c config.Clock, a config.Attempts, request, perTry time.Duration) string {
	var said []string
	if request > 0 {
		said = append(said, short(request)+" in all")
	}
	switch {
	case a.Hedge > 0:
		said = append(said, "an attempt is late after "+short(c.Attempt))
	case perTry > 0:
		said = append(said, "an attempt is ended after "+short(perTry))
	}
	if c.Idle > 0 {
		said = append(said, "ended when the client gets nothing for "+short(c.Idle))
	}
	return strings.Join(said, "; ")
}

func limits(g *config.Gateway, u *config.Upstream, t *config.Target) string {
	if t.Answer != "" {
		return "answers by itself"
	}
	first := "no limit"
	if t.Timeouts.FirstToken != config.Unbounded {
		first = short(t.Timeouts.FirstToken)
	}
	return fmt.Sprintf("%s; a whole answer %s; a stream's first token %s, silence before it %s and after it %s",
		t.Schema, short(u.WholeAttempt(t)), first, short(t.Timeouts.FirstByte), short(g.Stream.InterChunk))
}

func needs(out io.Writer, stream string, n config.Needs) {
	fmt.Fprintf(out, "  %s\n", stream)
	sorted := slices.Clone(n)
	slices.SortStableFunc(sorted, func(a, b config.Need) int { return cmp.Compare(a.Message, b.Message) })
	for i, need := range sorted {
		name := need.Message.String() + ":"
		if i > 0 && sorted[i-1].Message == need.Message {
			name = ""
		}
		fmt.Fprintf(out, "    %-26s %s\n", name, need.Why)
	}
}

// short writes a duration as people do: 10m and not 10m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
