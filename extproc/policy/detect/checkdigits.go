package detect

// luhn: ISO/IEC 7812-1, annex B.
func luhn(digits string) bool {
	sum := 0
	for i := range len(digits) {
		d := int(digits[len(digits)-1-i] - '0')
		if i%2 == 1 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return len(digits) > 0 && sum%10 == 0
}

// remainder returns the number of digits and capital letters, a letter counting as two digits from
// 10 to 35, modulo m: ISO 7064 as ISO 13616 (IBAN) uses it.
func remainder(s string, m int) int {
	r := 0
	for i := range len(s) {
		if isDigit(s[i]) {
			r = (r*10 + int(s[i]-'0')) % m
		} else {
			r = (r*100 + int(s[i]-'A') + 10) % m
		}
	}
	return r
}

// mod1110: ISO 7064, MOD 11,10; the last digit is the check digit.
func mod1110(digits string) bool {
	product := 10
	for i := range len(digits) - 1 {
		sum := (int(digits[i]-'0') + product) % 10
		if sum == 0 {
			sum = 10
		}
		product = sum * 2 % 11
	}
	return (11-product)%10 == int(digits[len(digits)-1]-'0')
}

// weighted returns the sum of the digits, each times its weight.
func weighted(digits string, weights ...int) int {
	sum := 0
	for i, w := range weights {
		sum += w * int(digits[i]-'0')
	}
	return sum
}

// The tables of Verhoeff's code: multiplication in the dihedral group D5, and the powers of his
// permutation.
var (
	dihedral = [10]string{"0123456789", "1234067895", "2340178956", "3401289567", "4012395678", "5987604321", "6598710432", "7659821043", "8765932104", "9876543210"}
	permuted = [8]string{"0123456789", "1576283094", "5803796142", "8916043527", "9453126870", "4286573901", "2793806415", "7046913258"}
)

// verhoeff: J. Verhoeff, Error Detecting Decimal Codes, 1969.
func verhoeff(digits string) bool {
	c := byte(0)
	for i := range len(digits) {
		d := digits[len(digits)-1-i] - '0'
		c = dihedral[c][permuted[i%8][d]-'0'] - '0'
	}
	return len(digits) > 0 && c == 0
}
