package injection

import (
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxEncoded is how much of an encoded run is decoded, in bytes: an injection comes early, and what
// is longer is a file.
const maxEncoded = 4096

// encodings returns the rules about what is encoded. What base64, hexadecimal and binary runs hide
// is decoded and looked at with the other rules.
func encodings(rules []Rule, find Finder) []Rule {
	second := func(decode func(string) []byte) func(string, []int) (int, int, bool) {
		return func(text string, groups []int) (from, to int, ok bool) {
			run := text[groups[0]:min(groups[1], groups[0]+maxEncoded)]
			for skip := range min(4, len(run)) { // it may begin with something else
				if suspect(decode(run[skip:]), rules, find) {
					return groups[0], groups[1], true
				}
			}
			return 0, 0, false
		}
	}
	return []Rule{
		{Name: "base64", Category: "encoded", Expr: `[A-Za-z0-9+/_-]{24,}`, Said: 60, Result: 80, Check: second(unbase64)},
		{Name: "hex", Category: "encoded", Expr: `(?:[0-9A-Fa-f]{2}[ ,:]?){12,}`, Said: 60, Result: 80, Check: second(unhex)},
		{Name: "binary", Category: "encoded", Expr: `(?:[01]{8}[ ,]?){12,}`, Said: 60, Result: 80, Check: second(unbinary)},
		{Name: "letters-apart", Category: "encoded", Expr: `(?:\b[A-Za-z][ .*_|-]{1,3}){7,}[A-Za-z]\b`, Said: 60, Result: 80, Check: second(together)},
	}
}

// spelling is to have a text followed that is not there in plain letters.
var spelling = []row{
	{"decode-and-follow", 35, 50, `(?i)\b(?:decod(?:e|ing)|decrypt|decipher|unscramble|reverse|translate|rot-?13|base-?64|morse)\b[^.!?\n]{0,80}\b(?:and|then)\s+(?:then\s+)?(?:follow|obey|execute|do\s+(?:what|as|it)|act\s+on|answer\s+what|carry\s+out|run\s+it|comply|perform)\b`},
	{"decode-and-follow-de", 35, 50, `(?i)\b(?:dekodier|entschlussel|decodier)\w*[^\n]{0,80}\b(?:befolg|fuhr|tu\b|mach)`},
	{"parts", 50, 60, `(?i)\b(?:put|join|glue|combine|concatenate)\s+(?:these|them|the\s+(?:parts|pieces))\b[^.!?\n]{0,20}\band\s+(?:follow|do|obey|execute|carry\s+out|answer)\b`},
	{"hidden-in-letters", 50, 60, `(?i)\b(?:hidden|written|spelled)\s+(?:in|by|with)\s+(?:the\s+)?(?:first|last|capital|initial)\s+(?:letters?|words?)\b`},
	{"join-and-follow", 50, 60, `(?i)\b(?:first|last|every|second)\s+(?:letters?|words?|characters?)\b[^\n]{0,60}\b(?:obey|follow\s+(?:it|them|the)|do\s+what|execute)\b`},
	{"rot13", 60, 80, `(?i)\b(?:vtaber|qvfertneq|sbetrg|oglcnff|bireevqr|erirny|cevag)\b[^\n]{0,40}\b(?:vafgehpgvbaf?|ehyrf?|cebzcg|thvqryvarf)\b`},
	{"reversed", 60, 80, `(?i)\b(?:snoitcurtsni|selur|senilediug|tpmorp)\b[^\n]{0,40}\b(?:erongi|drager?sid|tegrof|laever)\b`},
	{"digits-for-letters", 60, 80, `(?i)(?:\b1gn[o0]r[e3]|\bign(?:0r[e3]|or3)|d1sr[e3]g[a4]rd|disr3gard|\bf0rg[e3]t|\br3v[e3][a4]l)\b[^\n]{0,50}\b(?:[i1]n[s5][t7]ruc?[t7]?[i1][o0]n|pr[o0]mp[t7]|rul[e3])`},
	{"ignore-apart", 50, 60, `(?i)\bi[ ._*|-]{1,2}g[ ._*|-]{1,2}n[ ._*|-]{1,2}o[ ._*|-]{1,2}r[ ._*|-]{1,2}e\b`},
	{"misspelt", 50, 60, `(?i)\b(?:ignroe|ingore|igonre|ignor|ignoer|disregad|disreguard|forgett)\b[^\n]{0,30}\b(?:prev\w{3,7}|abov\w?|prior|all)\b[^\n]{0,20}\b(?:inst\w{5,11}|rules?|promt|prompt)`},
}

// suspect tells whether decoded bytes are text that is taken for an injection.
func suspect(decoded []byte, rules []Rule, find Finder) bool {
	text := string(decoded)
	if !readable(text) {
		return false
	}
	hits, err := find(text)
	return err != nil || Score(rules, hits, Result).Score >= Threshold // what cannot be judged counts
}

// readable tells whether what was decoded may be a sentence: random bytes are not.
func readable(text string) bool {
	letters := 0
	for _, r := range text {
		switch {
		case r == utf8.RuneError || r < ' ' && r != '\n' && r != '\r' && r != '\t':
			return false
		case unicode.IsLetter(r):
			letters++
		}
	}
	return letters >= 12
}

// plainAlphabet is that of base64 for base64url; unseparated takes out what stands between bytes.
var (
	plainAlphabet = strings.NewReplacer("-", "+", "_", "/")
	unseparated   = strings.NewReplacer(" ", "", ",", "", ":", "")
)

func unbase64(run string) []byte {
	run = plainAlphabet.Replace(run)
	decoded, _ := base64.RawStdEncoding.DecodeString(run[:len(run)-len(run)%4])
	if rest := run[len(run)-len(run)%4:]; len(rest) > 1 {
		last, _ := base64.RawStdEncoding.DecodeString(rest)
		decoded = append(decoded, last...)
	}
	return whole(decoded)
}

func unhex(run string) []byte {
	run = unseparated.Replace(run)
	decoded, _ := hex.DecodeString(run[:len(run)&^1])
	return whole(decoded)
}

func unbinary(run string) []byte {
	run = unseparated.Replace(run)
	var decoded []byte
	for ; len(run) >= 8; run = run[8:] {
		b, _ := strconv.ParseUint(run[:8], 2, 8)
		decoded = append(decoded, byte(b))
	}
	return whole(decoded)
}

// together puts letters that stand apart into words again: what stands further apart is between
// them.
func together(run string) []byte {
	var joined []byte
	letter := -1 // where the last one is
	for i := range len(run) {
		if c := run[i]; c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' {
			if letter >= 0 && i-letter > 2 {
				joined = append(joined, ' ')
			}
			joined = append(joined, c)
			letter = i
		}
	}
	return joined
}

// whole cuts off a character that the bound has cut.
func whole(decoded []byte) []byte {
	for range utf8.UTFMax - 1 {
		if r, size := utf8.DecodeLastRune(decoded); r != utf8.RuneError || size != 1 {
			break
		}
		decoded = decoded[:len(decoded)-1]
	}
	return decoded
}
