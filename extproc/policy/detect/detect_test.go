package detect

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// finder finds with one detector, as package match would.
type finder struct {
	d    Detector
	expr *regexp.Regexp
}

func newFinder(d Detector) finder { return finder{d, regexp.MustCompile(d.Expr)} }

func (f finder) find(text string) (found []string) {
	for _, groups := range f.expr.FindAllStringSubmatchIndex(text, -1) {
		if from, to, ok := f.d.Check(text, groups); ok {
			found = append(found, text[from:to])
		}
	}
	return found
}

func byName(t testing.TB, name string) finder {
	t.Helper()
	all, err := Of([]string{name})
	if err != nil {
		t.Fatal(err)
	}
	return newFinder(all[0])
}

// TestFound: what each detector finds in a text, and what it leaves.
func TestFound(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"email", "a@b.example, c@d.example", []string{"a@b.example", "c@d.example"}},
		{"email", "见a@b.example和c@d.example。", []string{"a@b.example", "c@d.example"}},
		{"email", "почта@пример.рф", []string{"почта@пример.рф"}},
		{"email", "it is a@b.example.", []string{"a@b.example"}},
		{"email", "user@host has no domain, a@1.2.3.4 an address, a@b.c one letter", nil},
		{"email", "https://user:pass@host.example/ and https://token@host.example/", nil},
		{"email", "git@github.com:a/b.git, logo@2x.png, getty@tty1.service, react@18.2.0", nil},
		{"email", strings.Repeat("a", 65) + "@b.example", nil},
		{"phone-international", "+49 30 901820, +1 415 555 0132 or +442079460018", []string{"+49 30 901820", "+1 415 555 0132", "+442079460018"}},
		{"phone-international", "1+442079460018, +1 415 555, +890 123 456 78, +0100", nil},
		{"phone-national", "020 7946 0958, (212) 555-0147, 0049 30 901820", []string{"020 7946 0958", "(212) 555-0147", "0049 30 901820"}},
		{"phone-national", "0049309018200, 01.02.2026 10:30, 08-03-02 08 11, 046 454 286, 112-7654321-1234567, 01/2026 123, 01 02 2026 10", nil},
		{"phone-labelled", `call 4155550123, "mobilePhone":"5125550187", 电话13800138000`, []string{"4155550123", "5125550187", "13800138000"}},
		{"phone-labelled", "phone order 4155550123, iphone 4155550123, call on 2026-11-29, tel 12345", nil},
		{"credit-card", "4111111111111111 4111-1111-1111-1111 4111 1111 1111 1111", []string{"4111111111111111", "4111-1111-1111-1111", "4111 1111 1111 1111"}},
		{"credit-card", "7 4111 1111 1111 1111 12.50", []string{"4111 1111 1111 1111"}},
		{"credit-card", "378282246310005, 3782 822463 10005, 30569309025904", []string{"378282246310005", "3782 822463 10005", "30569309025904"}},
		{"credit-card", "14111111111111111, 41111111111111111, 4111111111111111.50, 0.4111111111111111, a4111111111111111, 4111 1111-1111 1111, 4111111111111112", nil},
		{"credit-card", "4111 1111 1111 1111-1, 4111-1111-1111-11111, 41111 11111 11111 1", nil},
		{"iban", "DE89 3704 0044 0532 0130 00 FR14 2004 1010 0505 0001 3M02 606", []string{"DE89 3704 0044 0532 0130 00", "FR14 2004 1010 0505 0001 3M02 606"}},
		{"iban", "gb82west12345698765432 BIC", []string{"gb82west12345698765432"}},
		{"iban", "DE89370400440532013001, DE893704004405320130000, XDE89370400440532013000, XX89370400440532013000", nil},
		{"us-ssn", "536-22-1847, ssn: 536221847", []string{"536-22-1847", "536221847"}},
		{"us-ssn", "000-22-1847, 666-22-1847, 900-22-1847, 536-00-1847, 536-22-0000, 078-05-1120, 1536-22-1847, 536-22-18479, 536-22-1847-1, 536221847", nil},
		{"uk-nino", "AB 12 34 56 C and JG103759A", []string{"AB 12 34 56 C", "JG103759A"}},
		{"uk-nino", "BG123456A, DA123456A, AB123456E, XAB123456C", nil},
		{"nl-bsn", "BSN 111222333 and 111222333", []string{"111222333"}},
		{"ca-sin", "SIN: 046 454 286, but sin 046 454 286 is none", []string{"046 454 286"}},
		{"in-aadhaar", "2341 2341 2346 without the word, Aadhaar 2341 2341 2346 with it", []string{"2341 2341 2346"}},
		{"ipv4", "10.0.0.1, 10.1.0.10-10.1.0.99, 198.51.100.7:80 and 203.0.113.0/24.", []string{"10.0.0.1", "10.1.0.10", "10.1.0.99", "198.51.100.7", "203.0.113.0"}},
		{"ipv4", "v1.2.3.4, version 1.2.3.4, lib-1.2.3.4, Chrome/120.1.2.3, 1.2.3.4.5, 1.2.3.4-beta, 256.1.1.1, 127.0.0.1, 0.0.0.0, 255.255.255.0, 10.0.0.0", nil},
		{"ipv6", "2001:db8::1: is up, [fe80::1]:80, fd00:1:2:3:4:5:6:7", []string{"2001:db8::1", "fe80::1", "fd00:1:2:3:4:5:6:7"}},
		{"ipv6", "::1, a::b, std::face::add, 12:34:56, 52:54:00:12:34:56, 2001:12, 12001:db8::1", nil},
		{"bitcoin-address", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", []string{"1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"}},
		{"bitcoin-address", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNb bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5", nil},
		{"ethereum-address", "0x52908400098527886E0F7030069857D2E4169EE7", []string{"0x52908400098527886E0F7030069857D2E4169EE7"}},
		{"ethereum-address", "0x52908400098527886E0F7030069857D2E4169EE", nil},
		{"url-password", "postgres://app:Xk29dk2@db/x", []string{"Xk29dk2"}},
		{"url-password", "http://a:password@b, http://a:${PASS}@b, http://a:xxxx@b, http://a:80/@b", nil},
		{"aws-access-token", "aws AKIA" + "QYLPMN5HHHFPZAM2 here", []string{"AKIA" + "QYLPMN5HHHFPZAM2"}},
		{"aws-access-token", "aws AKIA" + "IOSFODNN7EXAMPLE here", nil}, // its allowlist
	} {
		if got := byName(t, c.name).find(c.text); !slices.Equal(got, c.want) {
			t.Errorf("%s in %q: got %q, want %q", c.name, c.text, got, c.want)
		}
	}
}

func TestOf(t *testing.T) {
	names := func(all []Detector) (names []string) {
		for _, d := range all {
			names = append(names, d.Name)
		}
		return names
	}
	got, err := Of([]string{"ipv6", "phone", "email", "phone-national"})
	if want := []string{"email", "phone-international", "phone-national", "phone-labelled", "ipv6"}; err != nil || !slices.Equal(names(got), want) {
		t.Errorf("got %v, %v, want %v", names(got), err, want)
	}
	if got, err := Of(nil); len(got) > 0 || err != nil {
		t.Errorf("of nothing: %v, %v", got, err)
	}
	_, err = Of([]string{"email", "e-mail", "creditcard"})
	if err == nil || !strings.Contains(err.Error(), `"e-mail", "creditcard"; there are`) || !strings.Contains(err.Error(), "credit-card") || !strings.Contains(err.Error(), "rules of gitleaks") {
		t.Errorf("got %v", err)
	}
	all := names(All())
	slices.Sort(all)
	if twice := len(all) - len(slices.Compact(all)); twice > 0 {
		t.Errorf("%d names are there twice", twice)
	}
	if len(All()) < 250-10 {
		t.Errorf("only %d detectors", len(All()))
	}
}

// TestPage: the page names each category, and each detector for personal data.
func TestPage(t *testing.T) {
	page, err := os.ReadFile("../../../docs/policies-dlp.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range All() {
		if d.Category != Secret && !strings.Contains(string(page), "`"+d.Name+"`") || !strings.Contains(string(page), d.Category) {
			t.Errorf("%s, of the category %s, is not on the page", d.Name, d.Category)
		}
	}
}

func TestReplacements(t *testing.T) {
	for got, want := range map[string]string{
		Placeholder(Email, 1):       "[EMAIL_1]",
		Placeholder(CreditCard, 12): "[CREDIT_CARD_12]",
		Mask("4111 1111 1111 1111"): "**** **** **** 1111",
		Mask("536-22-1847"):         "***-**-****",
		Mask("jürg@example.ch"):     "****@*****le.ch",
		Mask(""):                    "",
		// RFC 4231, 4.3: the beginning of test case 2.
		Hash("what do ya want for nothing?", []byte("Jefe")): "5bdcc146bf60754e",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
