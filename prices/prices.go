// Package prices is what tokens cost: a table of rows by provider and model, and the arithmetic,
// which is exact. The rows of table.csv are what providers publish, each with its source and the
// day on which it was read; an operator's own come before them. What no row has costs nobody knows
// what, and is never taken for nothing.
package prices

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"
)

// Amount is money, in millionths of a millionth of a US dollar: what a token costs of which a
// million cost a millionth of a dollar. It holds more than nine million dollars.
type Amount int64

const perDollar = 1_000_000_000_000

// String is the amount in dollars, a decimal number without superfluous zeros: "0.0001225".
func (a Amount) String() string {
	sign, n := "", uint64(a)
	if a < 0 {
		sign, n = "-", -n
	}
	whole, rest := n/perDollar, n%perDollar
	if rest == 0 {
		return fmt.Sprintf("%s%d", sign, whole)
	}
	return fmt.Sprintf("%s%d.%s", sign, whole, strings.TrimRight(fmt.Sprintf("%012d", rest), "0"))
}

// ParseAmount reads what String writes, so that amounts can be added up exactly.
func ParseAmount(s string) (Amount, error) {
	n, err := decimal(s, 12)
	return Amount(n), err
}

// Rate is the price of a token, in the same unit: of a million tokens it is the price in millionths
// of a dollar.
type Rate int64

// MostRate is the highest price of a million tokens, in dollars.
const MostRate = 1_000_000

// ParseRate reads a price for a million tokens in dollars, with at most six decimal places.
func ParseRate(s string) (Rate, error) {
	n, err := decimal(s, 6)
	switch {
	case err != nil:
		return 0, err
	case n < 0 || n > MostRate*1_000_000:
		return 0, fmt.Errorf("%s is not a price: from 0 to %d", s, MostRate)
	}
	return Rate(n), nil
}

// decimal reads a decimal number and shifts its point by so many places.
func decimal(s string, places int) (int64, error) {
	whole, rest, _ := strings.Cut(s, ".")
	if len(rest) > places {
		return 0, fmt.Errorf("%s has more than %d decimal places", s, places)
	}
	if whole == "" || strings.ContainsAny(rest, "+-") {
		return 0, fmt.Errorf("%q is no decimal number", s)
	}
	n, err := strconv.ParseInt(whole+rest+strings.Repeat("0", places-len(rest)), 10, 64)
	if errors.Is(err, strconv.ErrRange) {
		return 0, fmt.Errorf("%s is too large", s)
	}
	if err != nil {
		return 0, fmt.Errorf("%q is no decimal number", s)
	}
	return n, nil
}

// Price is what a model's tokens cost.
type Price struct {
	Input, Output Rate
	// CacheRead and CacheWrite are of input that was read from the provider's cache or written into
	// it, Reasoning of output that the model has thought. They are those of all input and output
	// where a provider has no others.
	CacheRead, CacheWrite, Reasoning Rate
}

// Tokens are what an attempt has used. The cached ones are parts of Input, Reasoning is one of
// Output.
type Tokens struct {
	Input, CacheRead, CacheWrite, Output, Reasoning int64
}

// Cost is what the tokens cost, at most what an Amount holds. Parts that are more than the whole,
// which some providers tell, count as they are.
func (p Price) Cost(t Tokens) Amount {
	var sum Amount
	for _, part := range [...]struct {
		tokens int64
		rate   Rate
	}{
		{t.Input - t.CacheRead - t.CacheWrite, p.Input}, {t.CacheRead, p.CacheRead}, {t.CacheWrite, p.CacheWrite},
		{t.Output - t.Reasoning, p.Output}, {t.Reasoning, p.Reasoning},
	} {
		sum = sum.Plus(times(part.tokens, part.rate))
	}
	return sum
}

// times is 0 for what is negative.
func times(tokens int64, rate Rate) Amount {
	if tokens <= 0 || rate <= 0 {
		return 0
	}
	high, low := bits.Mul64(uint64(tokens), uint64(rate))
	if high > 0 || low > math.MaxInt64 {
		return math.MaxInt64
	}
	return Amount(low)
}

// Plus is the sum, at most what an Amount holds. Neither may be negative.
func (a Amount) Plus(b Amount) Amount {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}
