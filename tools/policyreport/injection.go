package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"millrace/extproc/policy/injection"
)

const injectionSamples = "extproc/policy/injection/testdata/"

// labelled is a sample of the injection rules.
type labelled struct {
	Text, Place, Label, Language, Technique string
}

// promptInjection prints what the rules find of the samples, set by set, at the default threshold.
func promptInjection(w io.Writer) error {
	judge, err := injectionRules()
	if err != nil {
		return err
	}
	for _, set := range []struct{ file, title string }{
		{"samples", "samples that were looked at while the rules were tuned"},
		{"held-out", "samples that were held out, a third of the first ones of each kind, by chance"},
		{"late", "samples written when the rules were done; one kind of miss was mended since"},
	} {
		samples, err := readLabelled(injectionSamples + set.file + ".jsonl")
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%d %s:\n\n", len(samples), set.title)
		printInjections(w, samples, judge)
	}
	return nil
}

func readLabelled(name string) (samples []labelled, err error) {
	file, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	for i, line := range bytes.Split(bytes.TrimSpace(file), []byte("\n")) {
		var s labelled
		if err := json.Unmarshal(line, &s); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, i+1, err)
		}
		samples = append(samples, s)
	}
	return samples, nil
}

// injectionRules returns what tells how a sample is judged, and by which rules.
func injectionRules() (func(labelled) (score int, by string), error) {
	rules, err := injection.Rules(injection.Regexps)
	if err != nil {
		return nil, err
	}
	find, err := injection.Regexps(rules)
	if err != nil {
		return nil, err
	}
	return func(s labelled) (int, string) {
		place := injection.Said
		if s.Place == "tool-result" {
			place = injection.Result
		}
		hits, _ := find(s.Text)
		verdict := injection.Score(rules, hits, place)
		var names []string
		for _, i := range verdict.Rules {
			names = append(names, rules[i].Name)
		}
		return verdict.Score, strings.Join(names, " ")
	}, nil
}

// tally counts the samples of a kind, and those of them that are taken for an injection.
type tally struct{ all, taken int }

func printInjections(w io.Writer, samples []labelled, judge func(labelled) (int, string)) {
	kinds := map[string]map[string]tally{"injection": {}, "benign": {}}
	total := map[string]tally{}
	var misses []string
	for _, s := range samples {
		score, by := judge(s)
		kind, sum := kinds[s.Label][s.Technique], total[s.Label]
		kind.all++
		sum.all++
		taken := score >= injection.Threshold
		if taken {
			kind.taken++
			sum.taken++
		}
		kinds[s.Label][s.Technique], total[s.Label] = kind, sum
		if taken != (s.Label == "injection") {
			text := strings.ReplaceAll(fmt.Sprintf("%.120q", s.Text), "|", `\|`)
			misses = append(misses, fmt.Sprintf("| %s | %s | %s | %d %s |", s.Label, s.Technique, text, score, by))
		}
	}
	fmt.Fprintln(w, "| label | kind | samples | taken for an injection |\n|---|---|---|---|")
	for _, label := range []string{"injection", "benign"} {
		for _, kind := range slices.Sorted(maps.Keys(kinds[label])) {
			fmt.Fprintf(w, "| %s | %s | %d | %d |\n", label, kind, kinds[label][kind].all, kinds[label][kind].taken)
		}
	}
	found, falsely := total["injection"], total["benign"]
	fmt.Fprintf(w, "\nFound: %d of %d (recall %.3f). Benign samples taken for an injection: %d of %d\n(precision %.3f). What was judged wrongly:\n\n",
		found.taken, found.all, ratio(found.taken, found.all), falsely.taken, falsely.all, ratio(found.taken, found.taken+falsely.taken))
	fmt.Fprintln(w, "| label | kind | sample | score and rules |\n|---|---|---|---|")
	for _, m := range misses {
		fmt.Fprintln(w, m)
	}
	fmt.Fprintln(w)
}
