package detect

import (
	"regexp"
	"slices"
	"strings"
)

// phones: what a telephone number is, is the affair of each country, and there are no check digits.
// Found are the international form (ITU-T E.164, E.123), the common national forms that have
// separators, and any number that a word announces. A number without separators is only found where
// it has a + or such a word.
var phones = []Detector{
	{Name: "phone-international", Category: Phone, Check: alone(international),
		Expr: `(\w)??(\+[1-9](?:` + phoneGap + `{0,3}\d){6,14})(\d)?`},
	{Name: "phone-national", Category: Phone, Check: alone(national),
		Expr: `([\w.+/-]|\d ?(?:[A-Z]{4})? )??(?:` + prefixed + `|` + northAmerican + `|` + trunk + `|` + brazilian + `|` + russian + `)([ ./-]?\d|-?\w)?`},
	{Name: "phone-labelled", Category: Phone, Check: checkLabelled,
		Expr: `(?i)(\w)??(?:` + phoneWords + `)([^\d\n+(]{0,20})(\+?\(?\d(?:` + phoneGap + `{0,3}\d){6,14})(\d)?`},
}

const (
	phoneGap = `[ ()./` + noBreak + `-]`

	prefixed      = `(00 ?[1-9](?:` + phoneGap + `{0,3}\d){6,14})` // the international form where + is dialled 00
	northAmerican = `((?:1[ .-])?(?:\([2-9]\d{2}\) ?|[2-9]\d{2}[.-])[2-9]\d{2}[.-]\d{4}|1 [2-9]\d{2} [2-9]\d{2} \d{4})`
	trunk         = `(\(?0[1-9]\d{0,4}\)?(?:` + phoneGap + `{1,3}\d{2,8}){1,5})` // the zero before an area code
	brazilian     = `(\([1-9]\d\) ?9?\d{4}-\d{4})`
	russian       = `(8 ?\(\d{3,4}\) ?\d{2,3}-\d{2}-\d{2})`

	phoneWords = `phone|tel\b|telephone|telefon|telefono|teléfono|téléphone|telefone|telefoon|mobile|mobil|móvil|movil|portable|handy|cell|celular|cellulare|komórka|fax|whatsapp|sms|call|rufnummer|телефон|тел\.|звоните|my number|text me|dial|chiamami|llámame|电话|手机|電話|携帯|फोन`
)

// international: E.164 has at most 15 digits. +1 and +7 have ten after them. Country codes that
// begin with 28, 83 or 89 are not assigned.
func international(s string) bool {
	d := digits(s)
	switch {
	case slices.Contains([]string{"28", "83", "89"}, d[:2]):
		return false
	case d[0] == '1' || d[0] == '7':
		return len(d) == 11
	}
	return between(8, len(d), 15)
}

var dated = regexp.MustCompile(`^(?:\d{1,2}[ ./-]\d{1,2}[ ./-]\d{4}|0\d[./-](?:19|20)\d\d|(?:19|20)\d\d[./-]?[01]\d[./-]?[0-3]\d)(?:\D|$)`)

// national: what begins with 00 needs a separator, for long numbers are filled with zeros.
func national(s string) bool {
	if rest, is := strings.CutPrefix(s, "00"); is {
		return len(lengths(strings.TrimSpace(rest))) > 1 && international(rest)
	}
	if s[0] != '0' && s[0] != '(' || !strings.HasPrefix(strings.TrimPrefix(s, "("), "0") {
		return true // the expression says it all
	}
	runs := lengths(s)
	if dated.MatchString(s) || !between(9, len(digits(s)), 12) {
		return false
	}
	if slices.Equal(runs, []int{3, 3, 3}) || slices.Equal(runs, []int{3, 2, 4}) { // other numbers
		return false
	}
	if len(runs) >= 3 && runs[0] == 2 && runs[1] == 2 && runs[2] == 2 { // French, and else a date or a list
		return slices.Equal(runs, []int{2, 2, 2, 2, 2}) && strings.Count(s, s[2:3]) == 4 // one separator
	}
	return true
}

// notPhone are the words after which a number is not the telephone's.
var notPhone = regexp.MustCompile(`(?i)\b(?:id|order|version|build|port|code|model|error|patent|invoice|ticket)\b`)

// checkLabelled: the second group is what stands between the word and the number.
func checkLabelled(text string, groups []int) (from, to int, ok bool) {
	if groups[2] < groups[3] && !newWord(text[groups[2]], text[groups[3]]) || groups[8] < groups[9] {
		return 0, 0, false
	}
	s := text[groups[6]:groups[7]]
	n := len(digits(s))
	dense := len(lengths(s)) == 1
	ok = between(7, n, 15) && (!dense || n >= 9) && !dated.MatchString(s) && !notPhone.MatchString(text[groups[4]:groups[5]])
	return groups[6], groups[7], ok
}

// newWord: in mobile_phone and mobilePhone a word begins.
func newWord(before, first byte) bool {
	return before == '_' || !isUpper(before) && isUpper(first)
}
