package detect

import "testing"

// TestCheckDigits: valid numbers that others have published, and the same numbers with each digit
// changed in turn, which all of these codes notice but that of the CPF: its ten is a zero.
func TestCheckDigits(t *testing.T) {
	for _, c := range []struct {
		name, source string
		valid        func(string) bool
		numbers      []string
	}{
		{"Luhn", "ISO/IEC 7812-1; Wikipedia, Luhn algorithm; docs.stripe.com/testing", luhn,
			[]string{"17893729974", "4242424242424242", "5555555555554444", "378282246310005", "6011111111111117", "3056930009020004", "3566002020360505", "6200000000000005"}},
		{"Verhoeff", "Wikipedia and Wikibooks, Verhoeff algorithm", verhoeff,
			[]string{"2363", "758722", "123451", "1428570", "84736430954837284567892"}},
		{"ISO 7064 MOD 11,10", "the examples of Bundeszentralamt für Steuern", mod1110,
			[]string{"86095742719", "47036892816", "65929970489", "36574261809"}},
		{"BSN", "python-stdnum, stdnum.nl.bsn; Rijksdienst voor Identiteitsgegevens", bsn, []string{"111222333", "123456782"}},
		{"PESEL", "Wikipedia, PESEL", pesel, []string{"44051401359"}},
		{"CPF", "python-stdnum, stdnum.br.cpf; Wikipedia, CPF", cpf, []string{"39053344705", "11144477735", "52998224725"}},
		{"personnummer", "Skatteverket, SKV 704; python-stdnum, stdnum.se.personnummer", personnummer, []string{"811218-9876", "880320-0016"}},
		{"Aadhaar", "python-stdnum, stdnum.in_.aadhaar", verhoeff, []string{"234123412346"}},
		{"SIN", "Wikipedia, Social Insurance number", luhn, []string{"046454286"}},
		{"NIR", "INSEE; python-stdnum, stdnum.fr.nir", nir, []string{"295109912611193"}},
		{"IdNr", "Bundeszentralamt für Steuern", idnr, []string{"86095742719", "47036892816", "65929970489"}},
		{"codice fiscale", "Wikipedia, Codice fiscale; python-stdnum, stdnum.it.codicefiscale", codiceFiscale, []string{"RCCMNL83S18D969H"}},
		{"DNI and NIE", "python-stdnum, stdnum.es", dni, []string{"54362315K", "X2482300W"}},
		{"IBAN", "SWIFT, IBAN Registry: the examples of the countries", iban, ibanExamples},
	} {
		for _, number := range c.numbers {
			if !c.valid(number) {
				t.Errorf("%s (%s): %s is valid", c.name, c.source, number)
			}
			for i := range number {
				if !isDigit(number[i]) || c.name == "CPF" {
					continue
				}
				for d := byte('0'); d <= '9'; d++ {
					if wrong := number[:i] + string(d) + number[i+1:]; d != number[i] && c.valid(wrong) {
						t.Errorf("%s: %s is not valid, it has one digit of %s changed", c.name, wrong, number)
					}
				}
			}
		}
	}
}

var ibanExamples = []string{
	"AD1200012030200359100100", "AE070331234567890123456", "AL47212110090000000235698741", "AT611904300234573201", "AZ21NABZ00000000137010001944",
	"BA391290079401028494", "BE68539007547034", "BG80BNBG96611020345678", "BH67BMAG00001299123456", "BR1800360305000010009795493C1", "BY13NBRB3600900000002Z00AB00",
	"CH9300762011623852957", "CR05015202001026284066", "CY17002001280000001200527600", "CZ6508000000192000145399", "DE89370400440532013000", "DK5000400440116243",
	"DO28BAGR00000001212453611324", "EE382200221020145685", "EG380019000500000000263180002", "ES9121000418450200051332", "FI2112345600000785", "FO6264600001631634",
	"FR1420041010050500013M02606", "GB29NWBK60161331926819", "GE29NB0000000101904917", "GI75NWBK000000007099453", "GL8964710001000206", "GR1601101250000000012300695",
	"GT82TRAJ01020000001210029690", "HR1210010051863000160", "HU42117730161111101800000000", "IE29AIBK93115212345678", "IL620108000000099999999", "IQ98NBIQ850123456789012",
	"IS140159260076545510730339", "IT60X0542811101000000123456", "JO94CBJO0010000000000131000302", "KW81CBKU0000000000001234560101", "KZ86125KZT5004100100",
	"LB62099900000001001901229114", "LC55HEMM000100010012001200023015", "LI21088100002324013AA", "LT121000011101001000", "LU280019400644750000", "LV80BANK0000435195001",
	"MC5811222000010123456789030", "MD24AG000225100013104168", "ME25505000012345678951", "MK07250120000058984", "MR1300020001010000123456753", "MT84MALT011000012345MTLCAST001S",
	"MU17BOMM0101101030300200000MUR", "NL91ABNA0417164300", "NO9386011117947", "PK36SCBL0000001123456702", "PL61109010140000071219812874", "PS92PALS000000000400123456702",
	"PT50000201231234567890154", "QA58DOHB00001234567890ABCDEFG", "RO49AAAA1B31007593840000", "RS35260005601001611379", "SA0380000000608010167519",
	"SC18SSCB11010000000000001497USD", "SE4550000000058398257466", "SI56263300012039086", "SK3112000000198742637541", "SM86U0322509800000000270100", "SV62CENR00000000000000700025",
	"TL380080012345678910157", "TN5910006035183598478831", "TR330006100519786457841326", "UA213223130000026007233566001", "VA59001123000012345678", "VG96VPVG0000012345678901", "XK051212012345678906",
}

// TestIBANs: the expression has the length of each country, and of no other.
func TestIBANs(t *testing.T) {
	f := byName(t, "iban")
	for _, number := range ibanExamples {
		for text, want := range map[string]int{number: 1, number[:4] + " " + number[4:]: 1, number + "1": 0, number[:len(number)-1]: 0} {
			if got := f.find(text); len(got) != want {
				t.Errorf("%q: found %q", text, got)
			}
		}
	}
}

// TestIDRules: what is not a check digit.
func TestIDRules(t *testing.T) {
	for _, c := range []struct {
		why    string
		valid  func(string) bool
		number string
	}{
		{"a digit four times", idnr, "11112345677"},
		{"two digits twice", idnr, "11223456780"},
		{"three times side by side", idnr, "35870111964"},
		{"no digit twice", idnr, "12345678903"},
		{"month 13", pesel, "44131401350"},
		{"a day that there is not", personnummer, "810230-9872"},
		{"all digits are one", cpf, "11111111111"},
		{"nothing but zeros", bsn, "000000000"},
		{"check digits of a hundred", iban, "BE99635762506240"},
		{"a prefix that is not used", nino, "ZZ123456A"},
	} {
		if c.valid(c.number) {
			t.Errorf("%s is valid: %s", c.number, c.why)
		}
	}
}
