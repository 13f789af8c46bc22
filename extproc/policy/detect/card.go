package detect

import "slices"

// cards: the groups are those that are printed on cards, the first digits those of the brands.
// After a decimal point stands no card; after a comma one does, in a table.
var cards = []Detector{{Name: "credit-card", Category: CreditCard, Check: alone(card),
	Expr: `(\d\.|\w)??(?:` +
		`((?:4\d|5[0-8]|2[2-7]|6\d|35|8[12]|97)\d{2}` + cardGap + `\d{4}` + cardGap + `\d{4}` + cardGap + `\d{4}(?:` + cardGap + `\d{3}\b)?)|` +
		`(3[47]\d{2}` + cardGap + `\d{6}` + cardGap + `\d{5}|3[0689]\d{2}` + cardGap + `\d{6}` + cardGap + `\d{4})|` +
		`((?:4\d|5[0-8]|2[2-7]|6\d|3[04-9]|8[12]|97)\d{12,17}))([.-]?\d|\w)?`}}

const cardGap = `[ .` + noBreak + `-]`

// brand is a range of first digits and the lengths that its numbers have. The ranges and lengths
// are those of github.com/braintree/credit-card-type (card-types.ts); left out are lengths that are
// hardly ever issued and that barcodes, times and identifiers have: Visa with 13 digits, Maestro
// below 16.
type brand struct {
	low, high string
	lengths   []int
}

var brands = []brand{
	{"4", "4", []int{16, 18, 19}},           // Visa
	{"51", "55", []int{16}},                 // Mastercard
	{"2221", "2720", []int{16}},             // Mastercard
	{"34", "34", []int{15}},                 // American Express
	{"37", "37", []int{15}},                 // American Express
	{"300", "305", []int{14}},               // Diners Club
	{"3095", "3095", []int{14}},             // Diners Club
	{"36", "36", []int{14}},                 // Diners Club
	{"38", "39", []int{14}},                 // Diners Club
	{"6011", "6011", []int{16, 19}},         // Discover
	{"644", "649", []int{16, 19}},           // Discover
	{"65", "65", []int{16, 19}},             // Discover, RuPay, Verve
	{"3528", "3589", []int{16}},             // JCB
	{"62", "62", []int{16, 17, 18, 19}},     // UnionPay
	{"81", "82", []int{16}},                 // UnionPay, RuPay
	{"2200", "2204", []int{16}},             // Mir
	{"60", "60", []int{16}},                 // RuPay
	{"508", "508", []int{16}},               // RuPay
	{"5018", "5018", []int{16, 18, 19}},     // Maestro
	{"5020", "5020", []int{16, 18, 19}},     // Maestro
	{"5038", "5038", []int{16, 18, 19}},     // Maestro
	{"56", "58", []int{16, 18, 19}},         // Maestro
	{"63", "63", []int{16, 18, 19}},         // Maestro
	{"67", "67", []int{16, 18, 19}},         // Maestro
	{"506099", "506198", []int{16, 18, 19}}, // Verve
	{"9792", "9792", []int{16}},             // Troy
}

// card: one kind of separator only.
func card(s string) bool {
	separator := rune(0)
	for _, r := range s {
		if r <= '9' && isDigit(byte(r)) {
			continue
		}
		if separator != 0 && r != separator {
			return false
		}
		separator = r
	}
	d := digits(s)
	return luhn(d) && slices.ContainsFunc(brands, func(b brand) bool {
		return slices.Contains(b.lengths, len(d)) && between(b.low, d[:len(b.low)], b.high)
	})
}
