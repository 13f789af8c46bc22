package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

type eventsCommand struct {
	Tail tailCommand `cmd:"" help:"Print the last events, and with --follow those that come."`
}

type tailCommand struct {
	adminFlags
	Follow  bool     `help:"Go on until Ctrl-C." short:"f"`
	Last    int      `help:"How many to begin with." default:"10" short:"n"`
	Since   string   `help:"Begin here instead: a time, or how long ago it was (15m)."`
	Until   string   `help:"Only those of requests that began before this."`
	Status  []string `help:"Only those with this status: 429, 5xx, none."`
	Key     []string `help:"Only those of this key, by its name."`
	Target  []string `help:"Only those that this target answered."`
	Model   []string `help:"Only those for this model."`
	Service []string `help:"Only those of this service."`
	Refused bool     `help:"Those that a sink has refused for good, each with the reason, in place of the others."`
}

// followEvery is how often --follow asks for more.
const followEvery = time.Second

// Run prints a line an event; with -o json the event as it was recorded.
func (c *tailCommand) Run(ctx context.Context, out io.Writer) error {
	err := c.tail(ctx, out)
	if errors.Is(err, context.Canceled) && ctx.Err() != nil { // Ctrl-C is how one ends it
		err = nil
	}
	return err
}

func (c *tailCommand) tail(ctx context.Context, out io.Writer) error {
	q := url.Values{"limit": {strconv.Itoa(c.Last)}, "status": c.Status, "key": c.Key, "target": c.Target, "service": c.Service, "model": c.Model}
	for name, value := range map[string]string{"since": c.Since, "until": c.Until} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if c.Refused {
		q.Set("refused", "true")
	}
	for {
		a, err := c.call(ctx, request{method: "GET", path: []string{"v1", "events"}, beside: true, query: q})
		if err != nil {
			return err
		}
		var page struct {
			Events []json.RawMessage
			Next   string
			More   bool

			Refusals []struct{ Sink, Reason string }
		}
		if err := json.Unmarshal(a.body, &page); err != nil {
			return err
		}
		why := make([]string, len(page.Events))
		for i, r := range page.Refusals {
			why[i] = fmt.Sprintf("%s: %s", r.Sink, r.Reason)
		}
		if err := c.write(out, page.Events, why); err != nil {
			return err
		}
		if !page.More && !c.Follow {
			return nil
		}
		q.Set("after", page.Next)
		q.Del("since")
		q.Set("limit", "1000")
		if page.More {
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(followEvery):
		}
	}
}

// write prints events; why says of each why it was refused, "" where none was.
func (c *tailCommand) write(out io.Writer, events []json.RawMessage, why []string) error {
	if c.Output == "json" {
		for i, e := range events {
			if !c.Refused {
				fmt.Fprintf(out, "%s\n", e)
				continue
			}
			reason, err := json.Marshal(why[i])
			if err != nil {
				return err
			}
			fmt.Fprintf(out, `{"refused":%s,"event":%s}`+"\n", reason, e)
		}
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for i, data := range events {
		var e struct {
			ID, Method, Path, Model, Target, Key, Error string
			Time                                        time.Time
			Status                                      int
			DurationMs                                  float64 `json:"duration_ms"`
			Usage                                       struct{ Input, Output int }
		}
		if err := json.Unmarshal(data, &e); err != nil {
			return err
		}
		fmt.Fprintf(w, "%s\t%d\t%s %s\t%s\t%s\t%s\t%.0fms\t%d+%d\t%s\n",
			e.Time.Local().Format("15:04:05.000"), e.Status, e.Method, printable(e.Path), dash(e.Model), dash(e.Target), dash(e.Key),
			e.DurationMs, e.Usage.Input, e.Usage.Output, printable(strings.TrimSpace(e.Error+" "+why[i])))
	}
	return w.Flush()
}

// dash is what an event says, which may be a client's words, fit for a terminal.
func dash(s string) string {
	if s == "" {
		return "-"
	}
	return printable(s)
}
