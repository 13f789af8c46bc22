package redact

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"
)

const key = "sk-proj-AbCd1234efGH5678/ijKL+90wxyz"

// TestText: every way in which a provider quotes a key, and none of it is left.
func TestText(t *testing.T) {
	set := New("Bearer "+key, "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJtZSJ9.c2lnbmF0dXJlIQ", "key-a")
	for _, c := range []struct{ name, text, want string }{
		{"whole", "bad key " + key + "!", "bad key [redacted]!"},
		{"with its scheme", "got Bearer " + key, "got Bearer [redacted]"},
		{"twice, with nothing between", key + key, "[redacted]"},
		{"within a word", "x" + key + "x", "x[redacted]x"},
		{"its beginning", "key sk-proj-AbCd is", "key [redacted] is"},
		{"more of its beginning", "sk-proj-AbCd1234efGH", "[redacted]"},
		{"its beginning, cut off", "sk-proj-AbCd1...", "[redacted]"},
		{"its end", "key ending in +90wxyz1", "key ending in +90wxyz1"},
		{"its end", "key ending in L+90wxyz", "key ending in [redacted]"},
		{"both beside asterisks", "key sk-pr****yz.", "key [redacted]."},
		{"as OpenAI shows it", "Incorrect API key provided: sk-proj-********************wxyz. You", "Incorrect API key provided: [redacted]. You"},
		{"both beside dots", "key sk-proj-Ab..wxyz", "key [redacted]"},
		{"both beside an ellipsis", "key sk-proj-Ab…wxyz", "key [redacted]"},
		{"its end beside asterisks", "key ****wxyz", "key [redacted]"},
		{"its beginning beside bullets", "key sk-proj-Ab••••", "key [redacted]"},
		{"escaped", `key \u0073k-proj-AbCd1234efGH5678\/ijKL+90wxyz`, "key [redacted]"},
		{"escaped twice", `{\"k\":\"\\u0073k-proj-AbCd1234efGH5678/ijKL+90wxyz\"}`, `{\"k\":\"[redacted]\"}`},
		{"an ellipsis that is escaped", `key sk-proj-Ab\u2026wxyz`, "key [redacted]"},
		{"a token of RFC 7519", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJtZSJ9.c2lnbmF0dXJlIQ", "[redacted]"},
		{"the signature of one", "…eyJ.c2lnbmF0dXJlIQ", "…eyJ[redacted]"},
		{"a short key, as a token", "key 'key-a', key-a.", "key '[redacted]', [redacted]."},

		{"a short key in other words", "monkey-a key-ab key-a-b", "monkey-a key-ab key-a-b"},
		{"how keys of the vendor begin", "keys begin with sk-proj-, as in sk-proj-... or sk-proj-***", "keys begin with sk-proj-, as in sk-proj-... or sk-proj-***"},
		{"another key of the vendor", "sk-proj-ZbCd1234efGH5678", "sk-proj-ZbCd1234efGH5678"},
		{"how tokens of RFC 7519 begin", "eyJhbGciOiJIUzI1NiJ9.eyJ0", "eyJhbGciOiJIUzI1NiJ9.eyJ0"},
		{"emphasis and dots", "**wx**, and so on ... ***yz*** *wxyz*", "**wx**, and so on ... ***yz*** *wxyz*"},
		{"a path", `C:\users\u0041`, `C:\users\u0041`},
		{"nothing", "", ""},
	} {
		if got := set.String(c.text); got != c.want {
			t.Errorf("%s: %q becomes %q, want %q", c.name, c.text, got, c.want)
		}
	}
}

// TestBase64: an encoded key is found wherever in the encoded text it stands, in either alphabet,
// with and without padding.
func TestBase64(t *testing.T) {
	set := New(key)
	for name, alphabet := range map[string]*base64.Encoding{
		"std": base64.StdEncoding, "raw std": base64.RawStdEncoding, "url": base64.URLEncoding, "raw url": base64.RawURLEncoding,
	} {
		for _, before := range []string{"", "k", "ke", "Bearer ", "user:", "key="} {
			for _, after := range []string{"", "\n", "ab", ":password"} {
				got := set.String("<" + alphabet.EncodeToString([]byte(before+key+after)) + ">")
				inside, _, _ := strings.Cut(strings.TrimPrefix(got, "<"), ">")
				head, tail, found := strings.Cut(inside, Mark)
				if !found {
					t.Errorf("%s of %q: %s", name, before+key+after, got)
				}
				for _, left := range []string{head, strings.TrimRight(tail, "=")} {
					if len(left) > 2*len(":password") {
						t.Errorf("%s of %q: %s is left", name, before+key+after, left)
					}
				}
			}
		}
	}
}

// TestDummies: what stands in for a key, where a provider needs none, eats no words and no JSON.
func TestDummies(t *testing.T) {
	const text = `{"key":"test","none":null,"x":[1234567,"xxxxxxxxxxxxxxxxxxxxxxxx"],"password":"the password is a test, sk-dummy or key-a: 00000000"}`
	words := []string{"test", "none", "x", "key", "password", "null", "1234567", "00000000", "xxxxxxxxxxxxxxxxxxxxxxxx", "", "Bearer test", `"`, "{", "***"}
	if got := New(words...).JSON([]byte(text)); string(got) != text {
		t.Errorf("got %s", got)
	}
	dummies := New("Bearer sk-dummy", "key-a")
	if got := dummies.Certain().JSON([]byte(text)); string(got) != text {
		t.Errorf("what a model says: %s", got)
	}
	if got, want := string(dummies.JSON([]byte(text))), strings.NewReplacer("sk-dummy", Mark, "key-a", Mark).Replace(text); got != want {
		t.Errorf("what an error says: got %s, want %s", got, want)
	}
}

// TestJSON: strings lose their secrets, and nothing else changes.
func TestJSON(t *testing.T) {
	set := New(key, "1234567890123456789012", `ab"cd\ef","123456`, "n123456789abc", "schlüssel-ß123456")
	for _, c := range []struct{ name, text, want string }{
		{"a string", `{"a":"` + key + `"}`, `{"a":"[redacted]"}`},
		{"escapes", `{"a":"\u0073k-proj-AbCd1234efGH5678\/ijKL\u002b90wxyz\n"}`, `{"a":"[redacted]\n"}`},
		{"JSON in a string", `{"a":"{\"b\":\"` + `\\u0073k-proj-AbCd1234efGH5678/ijKL+90wxyz\"}"}`, `{"a":"{\"b\":\"[redacted]\"}"}`},
		{"a name", `{"` + key + `":1}`, `{"[redacted]":1}`},
		{"a number", `{"a":1234567890123456789012,"b":"1234567890123456789012"}`, `{"a":1234567890123456789012,"b":"[redacted]"}`},
		{"a secret with quotes", `["ab\"cd\\ef\",\"123456"]`, `["[redacted]"]`},
		{"an escape beside what looks like its secret", `["\n123456789abc"]`, `["\n[redacted]"]`},
		{"letters beyond ASCII", `["schl\u00fcssel-\u00DF123456","schlüssel-ß123456","schlüssel"]`, `["[redacted]","[redacted]","schlüssel"]`},
		{"no JSON", `key ` + key + `: {`, `key [redacted]: {`},
		{"none of it", `{"a":"sk-proj-\u00e4\n"}`, `{"a":"sk-proj-\u00e4\n"}`},
	} {
		if got := string(set.JSON([]byte(c.text))); got != c.want {
			t.Errorf("%s: %s becomes %s, want %s", c.name, c.text, got, c.want)
		}
	}
}

// TestEvents: every line of an event may quote a key; line ends of any kind stay.
func TestEvents(t *testing.T) {
	event := ": " + key + "\r\nevent: " + key + "\rid: " + key + "\ndata: {\"a\":\"\\u0073" + key[1:] + "\"}\ndata:" + key + "\n\n"
	want := ": [redacted]\r\nevent: [redacted]\rid: [redacted]\ndata: {\"a\":\"[redacted]\"}\ndata:[redacted]\n\n"
	raw := []byte(event)
	if got := string(New(key).Events(raw)); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if string(raw) != event {
		t.Error("the event was changed in place")
	}
	clean := []byte(strings.ReplaceAll(event, "sk-proj-", "pk-xxxx-")[:20])
	if got := New(key).Events(clean); &got[0] != &clean[0] {
		t.Error("an event without a secret was copied")
	}
}

// TestZero: a target without a credential costs nothing.
func TestZero(t *testing.T) {
	raw := []byte(`{"a":"\u0041***"}`)
	if n := testing.AllocsPerRun(10, func() { Set{}.Events(raw); Set{}.JSON(raw); Set{}.String("a***") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzJSON: valid JSON stays valid, the secret is in none of its strings, and what was redacted
// once has nothing left to redact.
func FuzzJSON(f *testing.F) {
	f.Add(key, `{"a":"sk-proj-AbCd1234efGH5678\/ijKL+90wxyz"}`, uint8(0))
	f.Add("n123456789abc", `["\n123456789abc","\\n123456789abc","\u006e123456789abc"]`, uint8(3))
	f.Add(`[1,"2",{"a":3}]x`, `[1,"2",{"a":3}]`, uint8(9))
	f.Add("schlüssel-ß123456", `["schl\u00fcssel-\u00df1234","***3456","schl***"]`, uint8(12))
	f.Add("a1****b2****c3", `["a1****b2****c3 a1****b2****"]`, uint8(1))
	f.Add("redacted]12[redacted", `["[redacted]12[redacted]"]`, uint8(1))
	f.Fuzz(func(t *testing.T, secret, text string, place uint8) {
		if strings.Contains(secret, "redacted") || strings.ContainsAny(secret, "[]") { // the Mark itself may then look like it
			t.Skip()
		}
		if strings.ContainsFunc(secret, func(r rune) bool { return r < ' ' && r != '\t' }) { // no header can carry it
			t.Skip()
		}
		set := New(secret)
		at := min(int(place), len(text))
		for _, text := range []string{text, text[:at] + secret + text[at:], quote(text[:at] + secret + text[at:])} {
			got := set.JSON([]byte(text))
			if json.Valid([]byte(text)) && !json.Valid(got) {
				t.Fatalf("%q becomes %q", text, got)
			}
			if again := set.JSON(got); !bytes.Equal(again, got) {
				t.Fatalf("%q becomes %q and then %q", text, got, again)
			}
			if !json.Valid(got) || !certain(withoutScheme(secret)) {
				continue
			}
			for _, s := range stringsOf(got) {
				if strings.Contains(string(unescaped(got[s.from:s.to])), withoutScheme(secret)) {
					t.Fatalf("%q becomes %q", text, got)
				}
			}
		}
	})
}

func quote(s string) string {
	text, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// TestCostIsLinear: what is allocated for a text that is full of secrets, escapes and asterisks
// grows as the text does.
func TestCostIsLinear(t *testing.T) {
	set := New(key, "key-a")
	for _, piece := range []string{key, `\u0073k-proj-AbCd1234`, "**", "sk-pr**", "sk-proj-AbCd", `\\\\u0041`, `key-a `} {
		size := func(n int) uint64 {
			text := []byte(`["` + strings.Repeat(piece, n) + `"]`)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			set.JSON(text)
			runtime.ReadMemStats(&after)
			return after.TotalAlloc - before.TotalAlloc
		}
		small, large := size(100), size(10_000)
		if large > 300*max(small, 1024) {
			t.Errorf("%q: %d bytes for 100 of them, %d for 10,000", piece, small, large)
		}
	}
}

// BenchmarkEvents is what a stream's event costs that holds no secret; one with an escape or an
// emphasis costs more.
func BenchmarkEvents(b *testing.B) {
	set := New("Bearer " + key)
	const event = `data: {"id":"chatcmpl-9aBcDeFgHiJkLmNoPqRsTuVwXyZ12","object":"chat.completion.chunk","created":1712345678,"model":"gpt-4.1-mini","system_fingerprint":"fp_3b956da36b","choices":[{"index":0,"delta":{"content":" %s"},"logprobs":null,"finish_reason":null}]}` + "\n\n"
	for name, word := range map[string]string{"plain": "hello", "line end": `a\nb`, "escape": `\u00e4`, "emphasis": "**so**", "key": key} {
		raw := fmt.Appendf(nil, event, word)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(raw)))
			for b.Loop() {
				set.Events(raw)
			}
		})
	}
}
