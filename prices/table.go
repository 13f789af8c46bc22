package prices

import (
	_ "embed" // of the table
	"encoding/csv"
	"fmt"
	"strings"
)

//go:embed table.csv
var published string

// Row is the price of the models that fit.
type Row struct {
	Provider string // its type, or what the configuration calls it; "" for any
	Model    string // the target's name of it; a * stands for anything
	Price
	Source, Date string // of a published row: where it was read, and when
}

// Table is rows, of which the first that fits counts. The zero value has none.
type Table struct{ rows []Row }

// Published is the table of what providers publish.
func Published() Table {
	t, err := parse(published)
	if err != nil {
		panic("prices: table.csv: " + err.Error()) // a test reads it
	}
	return t
}

// After is the table with these rows before its own.
func (t Table) After(rows []Row) Table {
	return Table{append(append([]Row(nil), rows...), t.rows...)}
}

// Find is the price of a model; false: nobody knows it. kind is the provider's type, name what the
// configuration calls it.
func (t Table) Find(kind, name, model string) (Price, bool) {
	for _, r := range t.rows {
		if (r.Provider == "" || r.Provider == kind || r.Provider == name) && fits(r.Model, model) {
			return r.Price, true
		}
	}
	return Price{}, false
}

// fits tells whether the name is as the pattern has it.
func fits(pattern, name string) bool {
	begin, rest, many := strings.Cut(pattern, "*")
	if !many {
		return pattern == name
	}
	name, ok := strings.CutPrefix(name, begin)
	if !ok {
		return false
	}
	for {
		piece, further, more := strings.Cut(rest, "*")
		if !more {
			return strings.HasSuffix(name, piece)
		}
		_, after, found := strings.Cut(name, piece)
		if !found {
			return false
		}
		name, rest = after, further
	}
}

// columns are those of table.csv.
const columns = "provider,model,input,cache_read,cache_write,output,reasoning,source,date"

func parse(table string) (Table, error) {
	r := csv.NewReader(strings.NewReader(table))
	r.Comment = '#'
	lines, err := r.ReadAll()
	if err != nil {
		return Table{}, err
	}
	if len(lines) == 0 || strings.Join(lines[0], ",") != columns {
		return Table{}, fmt.Errorf("want the columns %s", columns)
	}
	var t Table
	for _, l := range lines[1:] {
		price, err := NewPrice(l[2], l[3], l[4], l[5], l[6])
		if err != nil {
			return Table{}, fmt.Errorf("%s %s: %w", l[0], l[1], err)
		}
		t.rows = append(t.rows, Row{Provider: l[0], Model: l[1], Price: price, Source: l[7], Date: l[8]})
	}
	return t, nil
}

// FieldError says which of a row's prices is none.
type FieldError struct {
	Field string // as the columns are called
	Err   error
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Err.Error() }

// NewPrice reads prices for a million tokens. Those of the cache and of reasoning may be empty:
// they are those of all input and output then. The error is a *FieldError.
func NewPrice(input, cacheRead, cacheWrite, output, reasoning string) (Price, error) {
	var p Price
	for _, field := range []struct {
		name, said string
		rate       *Rate
		otherwise  *Rate
	}{
		{"input", input, &p.Input, nil}, {"output", output, &p.Output, nil},
		{"cache_read", cacheRead, &p.CacheRead, &p.Input}, {"cache_write", cacheWrite, &p.CacheWrite, &p.Input},
		{"reasoning", reasoning, &p.Reasoning, &p.Output},
	} {
		if field.said == "" && field.otherwise != nil {
			*field.rate = *field.otherwise
			continue
		}
		rate, err := ParseRate(field.said)
		if err != nil {
			return Price{}, &FieldError{field.name, err}
		}
		*field.rate = rate
	}
	return p, nil
}
