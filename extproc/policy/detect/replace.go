package detect

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode"
)

// Placeholder names the nth thing of a category, counted from one: [CREDIT_CARD_2].
func Placeholder(category string, n int) string {
	return fmt.Sprintf("[%s_%d]", strings.ReplaceAll(strings.ToUpper(category), "-", "_"), n)
}

// Mask puts a star for each letter and digit, and leaves the last four where there are twelve or
// more: of a card that is what a receipt shows. What stands between them stays, so that one sees
// what it was.
func Mask(text string) string {
	is := func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }
	n := 0
	for _, r := range text {
		if is(r) {
			n++
		}
	}
	hidden := n
	if n >= 12 {
		hidden = n - 4
	}
	return strings.Map(func(r rune) rune {
		if !is(r) {
			return r
		}
		if hidden--; hidden >= 0 {
			return '*'
		}
		return r
	}, text)
}

// Hash returns 16 hexadecimal digits: the beginning of HMAC-SHA-256. One text has one hash as long
// as the key is the same, and nobody without the key can try texts.
func Hash(text string, key []byte) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return hex.EncodeToString(mac.Sum(nil)[:8])
}
