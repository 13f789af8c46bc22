package main

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// scripts have letters that look Latin. Those of the other scripts that Unicode lists do so by
// chance (an alef like an l): folded, they would only blur honest text.
var scripts = []*unicode.RangeTable{
	unicode.Latin, unicode.Greek, unicode.Cyrillic, unicode.Armenian, unicode.Cherokee, unicode.Coptic,
	unicode.Lisu, unicode.Canadian_Aboriginal, unicode.Deseret, unicode.Old_Italic, unicode.Carian,
	unicode.Lycian, unicode.Elbasan, unicode.Runic, unicode.Tifinagh, unicode.Osage, unicode.Miao,
	unicode.Warang_Citi, unicode.Common,
}

// maxBytes is fold.MaxBytes. What would become longer stays: U+FDFA is a sentence, of 33 bytes, and
// a body full of it would grow to eleven times its size.
const maxBytes = 12

// outlined are the Latin capitals of Unicode 16, which Go does not know yet.
const firstOutlined, lastOutlined = 0x1CCD6, 0x1CCEF

// Unicode's prototypes tell neither I from l nor m from rn. Patterns do.
const likeI = "\u0406\u04C0\u04CF\u0399\u2C92\u0196\u0197\uA4F2\U0001028A\U00016F28\U00010309\u16C1\u2D4F\U0001CCDE"

// additions are what Unicode has as letters of their own, and what is read as a letter all the
// same: small capitals, and what serves as one; and marks of punctuation in their many forms.
var additions = pairs(
	"ᴀaʙbᴄcᴅdᴇeꜰfɢgʜhɪiᴊjᴋkʟlᴍmɴnᴏoᴘpꞯqʀrꜱsᴛtᴜuᴠvᴡwʏyᴢz",
	"вbкkмmнhтtκkτtĸkεeωwɛe",
	"‘'’'‚'‛'′'ʹ'ʼ'´'ʻ'“\"”\"„\"‟\"″\"«\"»\"",
	"‐-‑-‒-–-—-―-−-⁃-﹘-－-",
	"\u0085\n\u2028\n\u2029\n\u000B\n\u2800 \u1680 ",
)

func pairs(texts ...string) map[rune]string {
	m := map[rune]string{}
	for _, text := range texts {
		runes := []rune(text)
		for i := 0; i+1 < len(runes); i += 2 {
			m[runes[i]] = string(runes[i+1])
		}
	}
	for i := rune(0); i < 26; i++ {
		letter := string('A' + i)
		for _, first := range []rune{0x1F130, 0x1F150, 0x1F170, 0x1F1E6} { // squared, in circles, of flags
			m[first+i] = letter
		}
	}
	return m
}

// reduce leaves of Unicode's file what confusables reads.
func reduce(whole []byte) []byte {
	var w bytes.Buffer
	w.WriteString("# Of Unicode's confusables.txt, the lines that package fold needs; see LICENSE-UNICODE. The file's own head:\n#\n")
	for line := range bytes.Lines(whole) {
		source, _, is := confusable(string(line))
		if bytes.HasPrefix(line, []byte("# ")) || is && norm.NFKD.IsNormalString(string(source)) {
			w.Write(line)
		}
	}
	return w.Bytes()
}

// confusables has the letters that look Latin.
func confusables(data []byte) map[rune]string {
	m := map[rune]string{}
	for line := range strings.Lines(string(data)) {
		if source, target, is := confusable(line); is {
			m[source] = target
		}
	}
	return m
}

// confusable reads a line: "0430 ;	0061 ;	MA	# …".
func confusable(line string) (source rune, target string, is bool) {
	fields := strings.Split(line, ";")
	if len(fields) < 3 || strings.HasPrefix(line, "#") {
		return 0, "", false
	}
	source = number(fields[0])
	for _, field := range strings.Fields(fields[1]) {
		if r := number(field); !removed(r) {
			target += string(r)
		}
	}
	switch {
	case strings.ContainsRune(likeI, source):
		target = "I"
	case target == "rn":
		target = "m"
	case source == 'Ы' || source == 'Ю': // bl and lO
		return 0, "", false
	}
	outlined := source >= firstOutlined && source <= lastOutlined
	latin := target != "" && strings.Trim(strings.ToUpper(target), "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
	return source, target, source >= 0x80 && latin && (outlined || unicode.IsLetter(source) && unicode.In(source, scripts...))
}

func number(hex string) rune {
	n, err := strconv.ParseUint(strings.Trim(hex, " \ufeff"), 16, 32)
	if err != nil {
		panic(fmt.Sprintf("confusables.txt: %v", err))
	}
	return rune(n)
}

// runes has what each rune below limit becomes, if that is not itself.
func runes(confusables map[rune]string) map[rune]string {
	m := map[rune]string{}
	for r := rune(0); r < limit; r++ {
		if text := folded(r, confusables); text != string(r) && (r < 0xD800 || r > 0xDFFF) {
			m[r] = text
		}
	}
	return m
}

func folded(r rune, confusables map[rune]string) string {
	if text, is := additions[r]; is {
		return text
	}
	switch {
	case removed(r):
		return ""
	case r < 0x80, composed(r):
		return string(r)
	case unicode.Is(unicode.Zs, r):
		return " "
	}
	decomposed := []rune(norm.NFKD.String(string(r)))
	if len(decomposed) > 1 && decomposed[0] == ' ' && unicode.Is(unicode.Mn, decomposed[1]) {
		decomposed = []rune(norm.NFD.String(string(r))) // an accent on its own
	}
	var text []byte
	for _, d := range decomposed {
		letter, looks := confusables[d]
		added, is := additions[d]
		switch {
		case removed(d):
		case is:
			text = append(text, added...)
		case looks:
			text = append(text, letter...)
		default:
			text = append(text, string(d)...)
		}
	}
	if strings.ContainsFunc(string(decomposed), func(d rune) bool { return unicode.In(d, unicode.Hangul, unicode.Katakana) }) {
		text = norm.NFC.Bytes(text)
	}
	if len(text) > maxBytes {
		return string(r)
	}
	return string(text)
}

// composed tells of what stays composed, so that it can be written in patterns: the syllables of
// Hangul, and kana with their voice marks.
func composed(r rune) bool {
	return r >= 0xAC00 && r <= 0xD7A3 || unicode.In(r, unicode.Hiragana, unicode.Katakana) && norm.NFC.IsNormalString(string(r)) && norm.NFKC.IsNormalString(string(r))
}

// removed tells of what is not seen, and of the marks that are put on letters. The marks that are
// letters' other halves stay: vowel signs, voice marks, viramas.
func removed(r rune) bool {
	switch {
	case unicode.Is(unicode.Prepended_Concatenation_Mark, r):
		return false
	case unicode.In(r, unicode.Cf, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point, unicode.Me):
		return true
	case unicode.Is(unicode.Cc, r):
		return !slices.Contains([]rune{'\t', '\n', '\v', '\f', '\r', 0x85}, r)
	}
	class := norm.NFD.PropertiesString(string(r)).CCC()
	return class == 1 || class >= 10 && class <= 35 || class >= 200
}
