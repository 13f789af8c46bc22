package prices

import (
	"math"
	"strings"
	"testing"
	"time"
)

// TestCost: what tokens cost is exact, to the last place.
func TestCost(t *testing.T) {
	price, err := NewPrice("2.5", "1.25", "", "10", "")
	if err != nil {
		t.Fatal(err)
	}
	odd, err := NewPrice("0.075", "0.01875", "0.1", "0.3", "0.000001")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		price  Price
		tokens Tokens
		want   string
	}{
		{price, Tokens{}, "0"},
		{price, Tokens{Input: 1}, "0.0000025"},
		{price, Tokens{Input: 1_000_000, Output: 1_000_000}, "12.5"},
		{price, Tokens{Input: 19, CacheRead: 9, Output: 7, Reasoning: 3}, "0.00010625"},
		{price, Tokens{Input: 10, CacheWrite: 10}, "0.000025"},
		{odd, Tokens{Input: 3, CacheRead: 1, CacheWrite: 1, Output: 2, Reasoning: 1}, "0.000000493751"},
		{odd, Tokens{Input: 5, CacheRead: 9}, "0.00000016875"}, // parts that are more than the whole
		{price, Tokens{Output: math.MaxInt64}, "9223372.036854775807"},
		{price, Tokens{Input: math.MaxInt64, Output: math.MaxInt64}, "9223372.036854775807"},
	} {
		got := c.price.Cost(c.tokens)
		if got.String() != c.want {
			t.Errorf("%+v at %+v: %s, want %s", c.tokens, c.price, got, c.want)
		}
		if back, err := ParseAmount(got.String()); err != nil || back != got {
			t.Errorf("%s is read as %d: %v", got, back, err)
		}
	}
	if got := Amount(-1_500_000_000_000).String(); got != "-1.5" {
		t.Error(got)
	}
}

func TestPrices(t *testing.T) {
	for said, want := range map[string]Rate{"0": 0, "2.5": 2_500_000, "0.000001": 1, "1000000": 1_000_000_000_000, "00.10": 100_000} {
		if got, err := ParseRate(said); err != nil || got != want {
			t.Errorf("%s is %d, want %d: %v", said, got, want, err)
		}
	}
	for _, said := range []string{"", ".5", "-1", "1e3", "0.0000001", "1000000.1", "99999999999999999999", "1.-5", "1,5", "NaN"} {
		if got, err := ParseRate(said); err == nil {
			t.Errorf("%q is %d", said, got)
		}
	}
}

// TestTable: each published row says where and when it was read, has a sensible price, and is not
// hidden by one before it.
func TestTable(t *testing.T) {
	table := Published()
	if len(table.rows) < 30 {
		t.Fatalf("%d rows", len(table.rows))
	}
	for i, r := range table.rows {
		if _, err := time.Parse(time.DateOnly, r.Date); err != nil || !strings.HasPrefix(r.Source, "https://") || r.Provider == "" || r.Model == "" {
			t.Errorf("%+v", r)
		}
		if r.Input == 0 || r.Output < r.Input || r.CacheRead > r.Input || r.CacheWrite < r.Input || r.Reasoning != r.Output {
			t.Errorf("%s %s costs %+v", r.Provider, r.Model, r.Price)
		}
		example := strings.ReplaceAll(r.Model, "*", "0101")
		for _, before := range table.rows[:i] {
			if before.Provider == r.Provider && fits(before.Model, example) {
				t.Errorf("%s is hidden by %s", r.Model, before.Model)
			}
		}
	}
}

func TestFind(t *testing.T) {
	own := Price{Input: 7, Output: 7}
	table := Published().After([]Row{{Provider: "", Model: "gpt-4o*", Price: own}, {Provider: "eu", Model: "*", Price: Price{Input: 8}}})
	for _, c := range []struct {
		kind, name, model string
		want              Rate // of input; -1: nobody knows
	}{
		{"openai", "openai", "gpt-4.1", 2_000_000},
		{"openai", "acme", "gpt-4.1", 2_000_000}, // the type counts, too
		{"openai", "openai", "gpt-4o-mini", 7},   // the operator's first
		{"openai", "eu", "gpt-4.1", 8},           // by the provider's own name
		{"anthropic", "anthropic", "claude-opus-4-5-20251101", 5_000_000},
		{"anthropic", "anthropic", "claude-opus-5-5", -1},
		{"azure", "azure", "gpt-4.1", -1}, // another provider's price is another
		{"openai", "openai", "gpt-4.1-of-ours", -1},
		{"openai", "openai", "", -1},
	} {
		price, known := table.Find(c.kind, c.name, c.model)
		if known != (c.want >= 0) || known && price.Input != c.want {
			t.Errorf("%s %s %s costs %+v, %v", c.kind, c.name, c.model, price, known)
		}
	}
}

func TestFits(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"a", "a", true}, {"a", "ab", false}, {"a*", "a", true}, {"a*", "ab", true}, {"a*", "b", false}, {"*", "", true},
		{"*b", "ab", true}, {"*b", "ba", false}, {"a*c", "abc", true}, {"a*c", "ac", true}, {"aba*aba", "aba", false},
		{"a*b*c", "axbxc", true}, {"a*b*c", "acb", false}, {"a**", "ab", true},
	} {
		if got := fits(c.pattern, c.name); got != c.want {
			t.Errorf("%s fits %s: %v", c.name, c.pattern, got)
		}
	}
}
