package main

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"millrace/envoy"
)

// results are the figures of all rounds.
type results struct {
	runs   []result
	memory map[string]float64 // MiB, by subject
}

type result struct {
	round int
	load  string
	path  string
	*figures
}

func (r *results) add(round int, l load, p path, f *figures) {
	r.runs = append(r.runs, result{round, l.name, p.name(), f})
}

// median of a figure over the rounds, as it is and beside what the bare Envoy had in the same
// round.
func (r *results) median(load, path string, figure func(*figures) float64) (value, ratio, added float64) {
	var values, ratios, differences []float64
	for _, one := range r.runs {
		if one.load != load || one.path != path {
			continue
		}
		v := figure(one.figures)
		base := figure(r.bare(one.round, load))
		values, ratios, differences = append(values, v), append(ratios, v/base), append(differences, v-base)
	}
	return middle(values), middle(ratios), middle(differences)
}

func (r *results) bare(round int, load string) *figures {
	i := slices.IndexFunc(r.runs, func(one result) bool {
		return one.round == round && one.load == load && one.path == bareName
	})
	return r.runs[i].figures
}

func middle(v []float64) float64 {
	slices.Sort(v)
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// Figures of which tables are made.
func envoyEach(f *figures) float64  { return f.each(f.envoy) }
func besideEach(f *figures) float64 { return f.each(f.beside) }
func allEach(f *figures) float64    { return f.each(f.envoy + f.beside) }
func perSecond(f *figures) float64  { return float64(f.requests) / f.took.Seconds() }
func p50(f *figures) float64        { return ms(quantile(f.latency, 0.5)) }
func p99(f *figures) float64        { return ms(quantile(f.latency, 0.99)) }
func first50(f *figures) float64    { return ms(quantile(f.firstToken, 0.5)) }
func first99(f *figures) float64    { return ms(quantile(f.firstToken, 0.99)) }

// tables are Markdown.
func (r *results) tables(paths []path) string {
	var b strings.Builder
	table := func(load, title, head string, row func(path string) string) {
		if !slices.ContainsFunc(r.runs, func(one result) bool { return one.load == load }) {
			return
		}
		fmt.Fprintf(&b, "%s\n\n| | %s |\n|---|%s\n", title, head, strings.Repeat("---:|", strings.Count(head, "|")+1))
		for _, p := range paths {
			fmt.Fprintf(&b, "| %s | %s |\n", p.name(), row(p.name()))
		}
		fmt.Fprintln(&b)
	}
	cpu := func(load, path string) string {
		envoy, _, _ := r.median(load, path, envoyEach)
		beside, _, _ := r.median(load, path, besideEach)
		all, ratio, _ := r.median(load, path, allEach)
		return fmt.Sprintf("%.0f | %.0f | %.0f | %.2f", envoy, beside, all, ratio)
	}
	table("plain", fmt.Sprintf("A request of 1 KB and an answer of 1 KB, %d connections, each sending its next request when it has its answer:", loads[0].workers),
		"Envoy, µs | beside it, µs | together | × bare | requests/s | p99, ms", func(p string) string {
			rate, _, _ := r.median("plain", p, perSecond)
			slow, _, _ := r.median("plain", p, p99)
			return fmt.Sprintf("%s | %.0f | %.1f", cpu("plain", p), rate, slow)
		})
	table("stream", fmt.Sprintf("A streamed token, its share of the request included: %d streams at once, %d tokens each, one every %s:", loads[1].workers, tokens, pace),
		"Envoy, µs | beside it, µs | together | × bare | first token p50, ms | p99, ms | p99 over bare", func(p string) string {
			half, _, _ := r.median("stream", p, first50)
			slow, _, added := r.median("stream", p, first99)
			return fmt.Sprintf("%s | %.2f | %.2f | %+.2f", cpu("stream", p), half, slow, added)
		})
	table("rate", fmt.Sprintf("Latency at %.0f requests a second, counted from the instant that each was due:", loads[2].rate),
		"p50, ms | p99, ms | p50 over bare | p99 over bare | CPU, µs | × bare", func(p string) string {
			half, _, added50 := r.median("rate", p, p50)
			slow, _, added99 := r.median("rate", p, p99)
			all, ratio, _ := r.median("rate", p, allEach)
			return fmt.Sprintf("%.2f | %.2f | %+.2f | %+.2f | %.0f | %.2f", half, slow, added50, added99, all, ratio)
		})
	fmt.Fprintf(&b, "Peak memory: %s. Other processes used %.0f %% of the machine as a rule, %.0f %% at the worst.\n", r.peaks(paths), 100*r.others(0.5), 100*r.others(1))
	return b.String()
}

func (r *results) peaks(paths []path) string {
	var all []string
	for _, p := range paths {
		s := fmt.Sprintf("%s %.0f MiB", p.subject.name, r.memory[p.subject.name])
		if !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	return strings.Join(all, ", ")
}

func (r *results) others(q float64) float64 {
	var v []float64
	for _, one := range r.runs {
		v = append(v, max(0, one.others)) // ticks are coarse
	}
	slices.Sort(v)
	return v[min(len(v)-1, int(q*float64(len(v))))]
}

// conditions say when and on what the figures were had.
func conditions(o options) string {
	return fmt.Sprintf("Measured on %s: %d cores of %s, Linux %s, %s, Envoy %s; medians of %d interleaved rounds, ratios to the bare Envoy of the same round.\n",
		time.Now().UTC().Format("2006-01-02"), runtime.NumCPU(), cpuModel(), kernel(), runtime.Version(), envoy.Version(), o.rounds)
}

func cpuModel() string {
	data, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(data)) {
		if name, model, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(model)
		}
	}
	return "an unnamed processor"
}

func kernel() string {
	data, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	version, _, _ := strings.Cut(strings.TrimSpace(string(data)), "-") // what comes behind is the distribution's
	return version
}

const (
	begins = "<!-- written by MILLRACE_WRITE_DOCS=1 make bench -->\n"
	ends   = "<!-- end of what make bench writes -->\n"
)

// rewrite puts the text between the marks on the page.
func rewrite(page, text string) error {
	before, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	head, rest, ok := bytes.Cut(before, []byte(begins))
	_, tail, closed := bytes.Cut(rest, []byte(ends))
	if !ok || !closed {
		return fmt.Errorf("%s has no place for the tables, between %q and %q", page, strings.TrimSpace(begins), strings.TrimSpace(ends))
	}
	return os.WriteFile(page, slices.Concat(head, []byte(begins+"\n"+text+"\n"+ends), tail), 0o644)
}
