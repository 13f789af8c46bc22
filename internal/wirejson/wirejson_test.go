package wirejson

import (
	"encoding/base64"
	"errors"
	"fmt"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// value is what a client may send.
type value struct {
	Text  string   `json:"text"`
	Size  *int64   `json:"size"`
	Yes   bool     `json:"yes"`
	List  []value  `json:"list"`
	Heat  Number   `json:"heat"`
	Inner struct{} `json:"inner"`
}

// TestUnmarshal: what is wrong is named as the client wrote it, and what it should be and is.
func TestUnmarshal(t *testing.T) {
	for raw, want := range map[string][2]string{
		`{"text":null,"size":null,"heat":null}`: {},
		`{"text":5}`:                            {"a[0].text", "want a string, got a number"},
		`{"size":1.5}`:                          {"a[0].size", "want an integer"},
		`{"size":"1"}`:                          {"a[0].size", "want an integer, got a string"},
		`{"yes":"true"}`:                        {"a[0].yes", "want true or false, got a string"},
		`{"list":{}}`:                           {"a[0].list", "want an array, got an object"},
		`{"list":[{},{"text":true}]}`:           {"a[0].list[1].text", "want a string, got true"},
		`{"heat":"1"}`:                          {"a[0].heat", "want a number, got a string"},
		`{"inner":[]}`:                          {"a[0].inner", "want an object, got an array"},
		`[]`:                                    {"a[0]", "want an object, got an array"},
	} {
		err := Unmarshal("a[0]", []byte(raw), &value{})
		var wrong *Mismatch
		if errors.As(err, &wrong) != (want[0] != "") || want[0] != "" && (wrong.Member() != want[0] || wrong.Error() != want[1]) || want[0] == "" && err != nil {
			t.Errorf("%s: %v, want %v", raw, err, want)
		}
	}
	var wrong *Mismatch
	if err := Unmarshal("", []byte(`{"text":"a","text":"b"}`), &value{}); err == nil || errors.As(err, &wrong) {
		t.Errorf("a name that is there twice: %v", err)
	}
}

// TestLenient: what is of another kind is absent, and what stands beside it is read.
func TestLenient(t *testing.T) {
	for raw, want := range map[string]string{
		`{"text":"a","count":12.0,"place":0,"loose":[1],"after":"z"}`:        `a 12 0 true [1] true z`,
		`{"text":7,"count":"7","place":"x","loose":"x","after":"z"}`:         ` 0 0 false [] false z`,
		`{"text":{},"count":-1,"place":null,"loose":[1,"x"],"after":"z"}`:    ` 0 0 false [1 0] false z`,
		`{"text":[["x"]],"count":1e99,"place":3.9,"loose":null,"after":"z"}`: ` 0 3 true [] false z`,
		`{"count":9007199254740993,"text":"\ud800","text":"b","after":"z"}`:  `b 0 0 false [] false z`,
	} {
		var got struct {
			Text  Text         `json:"text"`
			Count Count        `json:"count"`
			Place Place        `json:"place"`
			Loose Loose[[]int] `json:"loose"`
			After Text         `json:"after"`
		}
		if err := json.Unmarshal([]byte(raw), &got, Lenient); err != nil {
			t.Errorf("%s: %v", raw, err)
		}
		if said := fmt.Sprintf("%s %d %d %t %v %t %s", got.Text, got.Count, got.Place.Count, got.Place.Known, got.Loose.Value, got.Loose.OK, got.After); said != want {
			t.Errorf("%s: %q, want %q", raw, said, want)
		}
	}
}

func TestStrings(t *testing.T) {
	for s, want := range map[string]string{`a"<b`: `"a\"<b"`, "\xff": "\"\uFFFD\"", "": `""`} {
		if got := Quote(s); string(got) != want {
			t.Errorf("%q: %s", s, got)
		}
	}
	for raw, want := range map[string]string{`"a\u00e9"`: "aé", `7`: "", ``: "", `null`: ""} {
		if got := Unquote(jsontext.Value(raw)); got != want {
			t.Errorf("%s: %q", raw, got)
		}
	}
	if Given(nil) || Given(jsontext.Value("null")) || !Given(jsontext.Value(`""`)) {
		t.Error("what is given")
	}
}

// TestMedia: the first bytes say what it is, however little there is.
func TestMedia(t *testing.T) {
	for raw, want := range map[string]string{
		"\x89PNG\r\n\x1a\n....": "image/png", "\xff\xd8\xff\xe0": "image/jpeg", "GIF89a": "image/gif", "GIF87a......": "image/gif",
		"RIFF....WEBPVP8 ": "image/webp", "RIFF....WAVEfmt ": "", "%PDF-1.7": PDF, "hello": "", "": "",
	} {
		if got := MediaType(base64.StdEncoding.EncodeToString([]byte(raw))); got != want {
			t.Errorf("%q: %q", raw, got)
		}
	}
	if got := MediaType("no base64 at all!"); got != "" {
		t.Error(got)
	}
	for url, want := range map[string][2]string{
		"data:Image/PNG;base64,AA==":            {"image/png", "AA=="},
		"DATA:text/plain;charset=x;base64,AA==": {"text/plain", "AA=="},
		"data:text/plain,hello":                 {},
		"data:;base64,":                         {},
		DataURL(PDF, "AA=="):                    {PDF, "AA=="},
	} {
		mediaType, data, ok := ParseDataURL(url)
		if got := [2]string{mediaType, data}; got != want || ok != (want[1] != "") || !IsDataURL(url) {
			t.Errorf("%s: %v, %v", url, got, ok)
		}
	}
	if IsDataURL("https://x") || IsDataURL("data") || BareType(" Image/PNG; q=1") != "image/png" {
		t.Error("addresses and labels")
	}
}
