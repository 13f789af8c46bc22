package detect

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// nationalIDs: a number that is only digits is found where a word announces it, for one in ten, or
// in eleven, of all numbers of its length has the right check digit. The others have letters,
// separators of their own or enough rules. What stands beside a row says where its rule is
// published.
var nationalIDs = []Detector{
	// United States, Social Security number. ssa.gov/employer/randomization.html: which areas,
	// groups and serials are never assigned.
	id("us-ssn", `\d{3}-\d{2}-\d{4}`, `ssn|social[ _-]?security`, `\d{3}[ -]?\d{2}[ -]?\d{4}`, ssn),
	// United Kingdom, National Insurance number. gov.uk, HMRC manual NIM39110: which letters and
	// prefixes are not used. There is no check digit.
	id("uk-nino", `[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D]`, ``, ``, nino),
	// Germany, Identifikationsnummer. Bundeszentralamt für Steuern and §139b AO: ISO 7064 MOD
	// 11,10, and how often a digit may occur.
	id("de-idnr", ``, `steuer-?id|steuer-?identifikation|identifikationsnummer|id-?nr|steuernummer|tax[ _-]?id|\btin\b`, `[1-9]\d ?\d{3} ?\d{3} ?\d{3}`, idnr),
	// France, numéro d'inscription au répertoire. INSEE: the key is 97 less the number modulo 97,
	// and 2A and 2B count as 19 and 18.
	id("fr-nir", `[12] ?\d{2} ?(?:0[1-9]|1[0-2]|[2-9]\d) ?(?:\d{2}|2[AB]) ?\d{3} ?\d{3} ?\d{2}`, ``, ``, nir),
	// Spain, DNI and NIE. Ministerio del Interior: the letter is the number modulo 23.
	id("es-dni", `\d{8}[ -]?[A-HJ-NP-TV-Z]|\d{2}\.\d{3}\.\d{3}[ -]?[A-HJ-NP-TV-Z]`, ``, ``, dni),
	id("es-nie", `[XYZ][ -]?\d{7}[ -]?[A-HJ-NP-TV-Z]`, ``, ``, dni),
	// Italy, codice fiscale. D.M. 23/12/1976 n. 13813: the last letter. The letters LMNPQRSTUV
	// stand for digits where two persons would have the same.
	id("it-codice-fiscale", `[A-Z]{6}[0-9L-NP-V]{2}[A-EHLMPRST][0-9L-NP-V]{2}[A-Z][0-9L-NP-V]{3}[A-Z]`, ``, ``, codiceFiscale),
	// Netherlands, burgerservicenummer. Logisch Ontwerp BSN: the eleven test.
	id("nl-bsn", ``, `bsn|burgerservice|sofi-?num`, `\d{9}|\d{4}[. ]\d{2}[. ]\d{3}`, bsn),
	// Poland, PESEL. Ustawa o ewidencji ludności: weights 1 3 7 9, the month has the century.
	id("pl-pesel", ``, `pesel`, `\d{11}`, pesel),
	// Sweden, personnummer. SKV 704: Luhn over ten digits, and a date; 60 more are added to the day
	// of a samordningsnummer.
	id("se-personnummer", `(?:19|20)?\d{6}[-+]\d{4}`, `personn(?:umme)?r|samordningsnummer|pnr`, `(?:19|20)?\d{6}[-+]?\d{4}`, personnummer),
	// Brazil, CPF. Receita Federal: two digits modulo 11.
	id("br-cpf", `\d{3}\.\d{3}\.\d{3}-\d{2}`, `cpf`, `\d{3}\.?\d{3}\.?\d{3}-?\d{2}`, cpf),
	// India, Aadhaar. UIDAI: twelve digits, the first is 2 to 9, the last by Verhoeff.
	id("in-aadhaar", ``, `aadha?ar|uidai|आधार`, `[2-9]\d{3}[ -]?\d{4}[ -]?\d{4}`, func(s string) bool { return verhoeff(digits(s)) }),
	// Canada, Social Insurance number. Employment and Social Development Canada: Luhn; 0 and 8 are
	// not assigned to persons, but 0 is in the examples that the agency prints.
	id("ca-sin", ``, `(?-i:\bSIN\b|\bNAS\b|"sin")|social[ _-]?insurance|assurance sociale`, `\d{3}[ -]?\d{3}[ -]?\d{3}`, func(s string) bool { return luhn(digits(s)) }),
}

// id is a detector of what has the form, and of what has the form announced after one of the words,
// with at most 24 characters that are no digits between them. Either may be empty.
func id(name, form, words, announced string, valid func(string) bool) Detector {
	const before, after = `([\w.]|\d[./-])??`, `([./-]?\d|\w)?`
	d := Detector{Name: name, Category: NationalID, Check: alone(valid)}
	switch {
	case words == "":
		d.Expr = before + `(` + form + `)` + after
	case form == "":
		d.Expr = fmt.Sprintf(`()(?:(?i:%s)[^\d\n]{0,24}\b(%s))%s`, words, announced, after)
	default:
		d.Expr = fmt.Sprintf(`%s(?:(%s)|(?i:%s)[^\d\n]{0,24}\b(%s))%s`, before, form, words, announced, after)
	}
	return d
}

func ssn(s string) bool {
	d := digits(s)
	return d[:3] != "000" && d[:3] != "666" && d[0] != '9' && d[3:5] != "00" && d[5:] != "0000" &&
		d != "078051120" && d != "219099999" // printed in advertisements
}

func nino(s string) bool {
	return !slices.Contains([]string{"BG", "GB", "KN", "NK", "NT", "TN", "ZZ"}, s[:2])
}

// idnr: of the first ten digits one occurs twice or three times, and no other more than once. Three
// times may not be side by side.
func idnr(s string) bool {
	d := digits(s)
	repeated := 0
	for c := byte('0'); c <= '9'; c++ {
		switch n := strings.Count(d[:10], string(c)); {
		case n > 3:
			return false
		case n > 1:
			repeated++
		}
		if strings.Contains(d[:10], strings.Repeat(string(c), 3)) {
			return false
		}
	}
	return repeated == 1 && mod1110(d)
}

func nir(s string) bool {
	s = only(s, isAlnum)
	number := strings.NewReplacer("2A", "19", "2B", "18").Replace(s[5:7])
	return remainder(s[:5]+number+s[7:13], 97)+remainder(s[13:], 100) == 97
}

func dni(s string) bool {
	s = only(s, isAlnum)
	n := strings.NewReplacer("X", "0", "Y", "1", "Z", "2").Replace(s[:1]) + s[1:len(s)-1]
	return "TRWAGMYFPDXBNJZSQVHLCKE"[remainder(n, 23)] == s[len(s)-1]
}

// The value of a character of a codice fiscale at an odd place, counted from one: the digits have
// those of the first ten letters.
var odd = [26]int{1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23}

func codiceFiscale(s string) bool {
	sum := 0
	for i := range 15 {
		v := int(s[i] - 'A')
		if isDigit(s[i]) {
			v = int(s[i] - '0')
		}
		if i%2 == 0 {
			v = odd[v]
		}
		sum += v
	}
	return byte('A'+sum%26) == s[15]
}

func bsn(s string) bool {
	d := digits(s)
	return d != "000000000" && weighted(d, 9, 8, 7, 6, 5, 4, 3, 2, -1)%11 == 0
}

func pesel(s string) bool {
	month := int(s[2]-'0')*10 + int(s[3]-'0')
	century := []string{"19", "20", "21", "22", "18"}[month/20]
	return weighted(s, 1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1)%10 == 0 && isDate(fmt.Sprintf("%s%s%02d%s", century, s[:2], month%20, s[4:6]))
}

func personnummer(s string) bool {
	d := digits(s)
	d = d[len(d)-10:]
	day := d[4:6]
	if day > "60" {
		day = fmt.Sprintf("%02d", int(day[0]-'0')*10+int(day[1]-'0')-60)
	}
	return luhn(d) && isDate("20"+d[:4]+day) // 2000 has a 29 February
}

func isDate(s string) bool {
	_, err := time.Parse("20060102", s)
	return err == nil
}

func cpf(s string) bool {
	d := digits(s)
	if d == strings.Repeat(d[:1], len(d)) {
		return false
	}
	first := weighted(d, 10, 9, 8, 7, 6, 5, 4, 3, 2) * 10 % 11 % 10
	second := weighted(d, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2) * 10 % 11 % 10
	return first == int(d[9]-'0') && second == int(d[10]-'0')
}
