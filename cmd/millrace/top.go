package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"golang.org/x/sys/unix"

	"millrace/dashboard"
)

type topCommand struct {
	adminFlags
	Once bool `help:"Print one frame and end; so it is where the output is no terminal."`
}

// topEvery is the time from one frame to the next.
const topEvery = time.Second

// Run shows a running gateway until q or Ctrl-C.
func (c *topCommand) Run(ctx context.Context, out io.Writer) error {
	shown, err := c.snapshot(ctx)
	if err != nil {
		return err
	}
	if c.Output == "json" {
		return json.NewEncoder(out).Encode(shown)
	}
	terminal, err := openTerminal(os.Stdin, os.Stdout)
	if c.Once || err != nil {
		_, err := io.WriteString(out, drawTop(shown, size{}, false))
		return err
	}
	defer terminal.close()
	tick := time.NewTicker(topEvery)
	defer tick.Stop()
	for trouble := ""; ; {
		terminal.show(trouble + drawTop(shown, terminal.size(), terminal.colors))
		select {
		case <-ctx.Done():
			return nil
		case <-terminal.quit:
			return nil
		case <-tick.C:
		}
		trouble = ""
		if next, err := c.snapshot(ctx); err == nil {
			shown = next
		} else if ctx.Err() == nil {
			trouble = fmt.Sprintf("no answer: %v\n", err)
		}
	}
}

func (c *topCommand) snapshot(ctx context.Context) (*dashboard.Snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*topEvery)
	defer cancel()
	a, err := c.call(ctx, request{method: "GET", path: strings.Split(strings.Trim(dashboard.FeedPath, "/"), "/"), beside: true})
	if err != nil {
		return nil, err
	}
	var s dashboard.Snapshot
	return &s, json.Unmarshal(a.body, &s)
}

// terminal is a screen to draw on. What was on it comes back at the end.
type terminal struct {
	in, out *os.File
	before  unix.Termios
	colors  bool
	quit    chan struct{} // is closed by q
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	return err == nil
}

// openTerminal fails where one of the two is no terminal.
func openTerminal(in, out *os.File) (*terminal, error) {
	if !isTerminal(out) {
		return nil, errors.New("the output is no terminal")
	}
	before, err := unix.IoctlGetTermios(int(in.Fd()), unix.TCGETS)
	if err != nil {
		return nil, err
	}
	keys := *before
	keys.Lflag &^= unix.ICANON | unix.ECHO // Ctrl-C is a signal all the same
	if err := unix.IoctlSetTermios(int(in.Fd()), unix.TCSETS, &keys); err != nil {
		return nil, err
	}
	t := &terminal{in: in, out: out, before: *before, colors: os.Getenv("NO_COLOR") == "", quit: make(chan struct{})}
	go t.awaitQuit()
	fmt.Fprint(out, "\x1b[?1049h\x1b[?25l") // another screen, without a cursor
	return t, nil
}

// awaitQuit ends with the process: a read of a terminal cannot be broken off.
func (t *terminal) awaitQuit() {
	for key := make([]byte, 1); ; {
		if n, err := t.in.Read(key); err != nil || n == 0 {
			return
		}
		if key[0] == 'q' || key[0] == 'Q' {
			close(t.quit)
			return
		}
	}
}

func (t *terminal) close() {
	fmt.Fprint(t.out, "\x1b[?25h\x1b[?1049l")
	if err := unix.IoctlSetTermios(int(t.in.Fd()), unix.TCSETS, &t.before); err != nil {
		fmt.Fprintln(os.Stderr, "terminal:", err)
	}
}

// show draws a frame in place of the one before, without a flicker.
func (t *terminal) show(frame string) {
	lines := strings.Split(strings.TrimSuffix(frame, "\n"), "\n")
	if most := t.size().height; most > 0 {
		lines = lines[:min(len(lines), most)]
	}
	fmt.Fprint(t.out, "\x1b[H"+strings.Join(lines, "\x1b[K\n")+"\x1b[K\x1b[J")
}

// size is that of a screen in characters; 0 is no bound.
type size struct{ width, height int }

func (t *terminal) size() size {
	w, err := unix.IoctlGetWinsize(int(t.out.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return size{}
	}
	return size{int(w.Col), int(w.Row)}
}

const (
	bold   = "\x1b[1m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	red    = "\x1b[31m"
	plain  = "\x1b[0m"
)

// drawing is a frame under way: lines, and the color of each.
type drawing struct {
	text   strings.Builder
	colors []string
	bound  size
}

// line adds one, in a color or in "".
func (d *drawing) line(color, text string) {
	d.text.WriteString(text + "\n")
	d.colors = append(d.colors, color)
}

// table adds rows with a head, in columns.
func (d *drawing) table(head string, colors []string, rows [][]string) {
	if len(rows) == 0 {
		return
	}
	d.line("", "")
	w := tabwriter.NewWriter(&d.text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, head)
	for _, r := range rows {
		fmt.Fprintln(w, strings.Join(r, "\t"))
	}
	w.Flush() //nolint:errcheck // into memory
	d.colors = append(append(d.colors, bold), colors...)
}

// drawTop is one frame as text.
func drawTop(s *dashboard.Snapshot, bound size, colored bool) string {
	d := &drawing{bound: bound}
	d.head(s)
	d.targets(s)
	d.policies(s)
	d.requests(s)
	var out strings.Builder
	for i, line := range strings.Split(strings.TrimSuffix(d.text.String(), "\n"), "\n") {
		runes := []rune(line)
		if bound.width > 0 && len(runes) > bound.width {
			runes = runes[:bound.width]
		}
		line = strings.TrimRight(printable(string(runes)), " ")
		if colored && d.colors[i] != "" {
			line = d.colors[i] + line + plain
		}
		out.WriteString(line + "\n")
	}
	return out.String()
}

// printable is text, which may be a client's words, as a terminal may have it: it takes some
// characters for commands.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

func (d *drawing) head(s *dashboard.Snapshot) {
	ready, color := "ready", bold
	if !s.Status.Ready {
		ready, color = "NOT READY", red
	}
	envoy := "Envoy " + s.Status.Envoy
	if s.Status.Envoy == "" {
		envoy = "Envoy is not connected"
	}
	d.line(color, fmt.Sprintf("Millrace %s  %s  %s  configuration %s %s  %s", s.Status.Release, s.Time.Local().Format(time.TimeOnly), ready,
		s.Status.Version, s.Status.State, envoy))
	t := s.Totals
	d.line("", fmt.Sprintf("last %.0f min  %d requests (%.1f/s), %d failed (%s)  first token %s  answer %s (median / p99)", t.Seconds/60, t.Requests,
		float64(t.Requests)/max(t.Seconds, 1), t.Errors, percent(t.Errors, t.Requests), quantiles(t.FirstToken), quantiles(t.Latency)))
	d.line("", fmt.Sprintf("tokens %d in, %d out  cost %s  %d attempts under way", t.Input, t.Output, money(t.USD), t.Active))
	if s.Status.Reason != "" {
		d.line(red, "Envoy has refused the last configuration: "+s.Status.Reason)
	}
	for _, trouble := range s.Status.Troubles {
		d.line(red, trouble)
	}
}

func (d *drawing) targets(s *dashboard.Snapshot) {
	many := slices.ContainsFunc(s.Targets, func(t dashboard.Target) bool { return t.Gateway != s.Targets[0].Gateway })
	var rows [][]string
	var colors []string
	for _, t := range s.Targets {
		name := t.Upstream + "/" + t.Target
		if many {
			name = t.Gateway + "/" + name
		}
		share := "-"
		if t.Attempts > 0 {
			share = fmt.Sprintf("%3.0f%% %s", 100*t.Share, strings.Repeat("#", int(t.Share*10+.5)))
		}
		rows = append(rows, []string{name, t.State, share, fmt.Sprint(t.Attempts), fmt.Sprint(t.Errors), quantiles(t.FirstToken), quantiles(t.Latency),
			fmt.Sprintf("%d / %d", t.Input, t.Output), money(t.USD), fmt.Sprint(t.Active)})
		colors = append(colors, map[string]string{"up": green, "drained": "", "unknown": "", "cooling": yellow, "ejected": red, "down": red}[t.State])
		if !slices.Contains([]string{"up", "drained", "unknown", "cooling", "ejected", "down"}, t.State) {
			colors[len(colors)-1] = red // a trouble that an operator has to see to
		}
	}
	d.table("TARGET\tSTATE\tSHARE\tATTEMPTS\tFAILED\tFIRST TOKEN\tANSWER\tTOKENS\tCOST\tUNDER WAY", colors, rows)
	if s.Hidden > 0 {
		d.line("", fmt.Sprintf("and %d more, which are up", s.Hidden))
	}
}

func (d *drawing) policies(s *dashboard.Snapshot) {
	var rows [][]string
	for _, p := range s.Policies {
		row := []string{p.Policy, p.Kind, p.Phase}
		for _, n := range []uint64{p.Pass, p.Flag, p.Redact, p.Block, p.Error, p.Observed} {
			row = append(row, fmt.Sprint(n))
		}
		rows = append(rows, row)
	}
	d.table("POLICY\tKIND\tPHASE\tPASS\tFLAG\tREDACT\tBLOCK\tERROR\tOBSERVED", make([]string, len(rows)), rows)
}

// onPaper is how many requests are shown where there is no screen.
const onPaper = 20

// requests are the last ones, the latest first, as many as there is room for.
func (d *drawing) requests(s *dashboard.Snapshot) {
	list := slices.Clone(s.Requests)
	slices.Reverse(list)
	room := onPaper
	if d.bound.height > 0 {
		room = d.bound.height - len(d.colors) - 2
	}
	list = list[:max(0, min(len(list), room))]
	var rows [][]string
	var colors []string
	for _, r := range list {
		rows = append(rows, requestColumns(r))
		colors = append(colors, statusColor(r.Status))
	}
	d.table("TIME\tSTATUS\tMODEL\tATTEMPTS\tFIRST TOKEN\tWHOLE\tTOKENS\tCOST\tKEY\tPOLICIES", colors, rows)
}

func statusColor(status uint32) string {
	switch {
	case status >= 500:
		return red
	case status >= 400 || status == 0:
		return yellow
	}
	return ""
}

// requestColumns are what people read of a request.
func requestColumns(r dashboard.Request) []string {
	var tried []string
	for _, a := range r.Attempts {
		word := a.Target
		switch {
		case a.Reason != "":
			word += " (" + a.Reason + ")"
		case a.Status >= 400:
			word += fmt.Sprintf(" (%d)", a.Status)
		}
		tried = append(tried, word)
	}
	status := "left"
	if r.Status > 0 {
		status = fmt.Sprint(r.Status)
	}
	return []string{r.Time.Local().Format(time.TimeOnly), status, cmp.Or(r.Model, "-"), cmp.Or(strings.Join(tried, " > "), "-"),
		milliseconds(r.FirstMs), milliseconds(r.DurationMs), fmt.Sprintf("%d / %d", r.Input, r.Output), money(r.USD), cmp.Or(r.Key, "-"),
		cmp.Or(strings.Join(r.Verdicts, ", "), "-")}
}

func quantiles(t *dashboard.Times) string {
	if t == nil {
		return "-"
	}
	return milliseconds(t.P50) + " / " + milliseconds(t.P99)
}

// milliseconds are a time for people; "-" is none.
func milliseconds(ms float64) string {
	switch {
	case ms == 0:
		return "-"
	case ms < 10:
		return fmt.Sprintf("%.1f ms", ms)
	case ms < 1000:
		return fmt.Sprintf("%.0f ms", ms)
	}
	return fmt.Sprintf("%.2f s", ms/1000)
}

func money(usd float64) string {
	switch {
	case usd == 0:
		return "-"
	case usd < .1:
		return fmt.Sprintf("$%.4f", usd)
	}
	return fmt.Sprintf("$%.2f", usd)
}

func percent(part, whole uint64) string {
	if whole == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f%%", 100*float64(part)/float64(whole))
}
