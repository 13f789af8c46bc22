package detect

import (
	"fmt"
	"slices"
	"strings"
)

// ibanLengths is the IBAN registry of SWIFT (ISO 13616): how long a country's numbers are, and
// whether they have digits only after the country's letters.
var ibanLengths = []struct {
	length int
	digits string // countries
	alnum  string
}{
	{15, "NO", ""},
	{16, "BE", ""},
	{18, "DK FI FO GL SD", "FK NL"},
	{19, "SI", "MK"},
	{20, "AT BA EE LT MN XK", "KZ LU"},
	{21, "HR", "CH LI LV"},
	{22, "CR DE ME RS VA", "BG BH GB GE IE"},
	{23, "AE IL SO TL", "GI IQ OM"},
	{24, "CZ ES SE SK TN", "AD MD PK RO SA VG"},
	{25, "LY PT ST", ""},
	{26, "IS", "TR"},
	{27, "BI DJ MR", "FR GR IT MC SM"},
	{28, "HU PL", "AL AZ BY CY DO GT HN LB NI SV"},
	{29, "EG", "BR PS QA UA"},
	{30, "", "JO KW MU YE"},
	{31, "", "MT SC"},
	{32, "", "LC"},
	{33, "", "RU"},
}

var ibans = []Detector{{Name: "iban", Category: IBAN, Expr: ibanExpr(), Check: alone(iban)}}

// ibanExpr has an alternative for each length, so that a match takes nothing of what follows.
func ibanExpr() string {
	var forms []string
	for _, l := range ibanLengths {
		for class, countries := range map[string]string{`\d`: l.digits, `[0-9A-Z]`: l.alnum} {
			if countries != "" {
				forms = append(forms, fmt.Sprintf(`(?:%s)\d{2}(?:[ %s-]?%s){%d}`, strings.ReplaceAll(countries, " ", "|"), noBreak, class, l.length-4))
			}
		}
	}
	slices.Sort(forms) // of the map; a country has one form only
	return `(?i)(\w)??(` + strings.Join(forms, "|") + `)(\w)?`
}

func iban(s string) bool {
	s = only(strings.ToUpper(s), isAlnum)
	return s[2:4] >= "02" && s[2:4] <= "98" && remainder(s[4:]+s[:4], 97) == 1
}
