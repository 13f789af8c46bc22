package errorbody

import (
	"strings"
	"testing"
)

// TestRead: the members that say most are taken, whatever order they come in. What errors of each
// vendor look like is tested with the whole gateway (extproc, TestErrorsOfAnyShape).
func TestRead(t *testing.T) {
	for name, c := range map[string]struct {
		body string
		want Said
	}{
		"the error, not what is beside it":   {`{"type":"error","message":"outer","error":{"type":"x","message":"inner","code":"c","param":"p"},"code":200}`, Said{Message: "inner", Type: "x", Code: "c", Param: "p"}},
		"what is beside an error without":    {`{"message":"outer","error":{"code":7}}`, Said{Message: "outer", Code: "7"}},
		"an empty error":                     {`{"error":{},"message":"outer"}`, Said{Message: "outer"}},
		"the better member, before":          {`{"message":"good","error":"Not Found"}`, Said{Message: "good"}},
		"the better member, behind":          {`{"title":"Not Found","detail":"good"}`, Said{Message: "good"}},
		"the first of two":                   {`{"msg":"good","message":"worse"}`, Said{Message: "good"}},
		"several errors":                     {`{"errors":[{"message":"a"},"b",{"msg":"c","loc":["x",1]},7,{}]}`, Said{Message: "a; b; x.1: c"}},
		"a number for a code, null for more": {`{"code":429,"type":null,"param":null,"message":null}`, Said{Code: "429"}},
		"the inner error":                    {`{"error":{"message":"m","innererror":{"a": 1}}}`, Said{Message: "m", Detail: []byte(`{"a": 1}`)}},
		"as far as it goes":                  {`{"error":{"message":"m","code":"c","x":[1,`, Said{Message: "m", Code: "c"}},
		"a word that breaks off":             {`{"error":{"code":"c","message":"hal`, Said{Code: "c"}},
		"the first of an array":              {`[{"message":"a"},{"message":"b"}]`, Said{Message: "a"}},
		"texts":                              {`["a","b",1]`, Said{Message: "a; b"}},
		"an array of arrays":                 {`[["a"]]`, Said{}},
		"bytes that are not UTF-8":           {"{\"message\":\"a\xffb\"}", Said{Message: "a\ufffdb"}},
		"two of a name":                      {`{"code":"a","code":"b","message":"m"}`, Said{Message: "m", Code: "a"}},
		"a number":                           {`7`, Said{}},
		"nothing":                            {``, Said{}},
		"no JSON":                            {`<html>`, Said{}},
	} {
		t.Run(name, func(t *testing.T) {
			got := Read([]byte(c.body))
			got.rank, got.where = 0, ""
			if got.Message != c.want.Message || got.Type != c.want.Type || got.Code != c.want.Code || got.Param != c.want.Param || string(got.Detail) != string(c.want.Detail) {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

// TestReadDeep: an error in an error in an error ends somewhere, and costs no more than its size.
func TestReadDeep(t *testing.T) {
	for _, opening := range []string{`{"error":`, `{"message":`, `{"errors":[`, `[`} {
		Read([]byte(strings.Repeat(opening, 100_000)))
	}
	deep := strings.Repeat(`{"error":`, maxDepth) + `{"message":"m"}` + strings.Repeat("}", maxDepth)
	if got := Read([]byte(deep)).Message; got != "m" {
		t.Errorf("got %q", got)
	}
}

func TestText(t *testing.T) {
	for body, want := range map[string]string{
		" upstream connect error\n": "upstream connect error", "\xef\xbb\xbf404 page not found": "404 page not found",
		"<html></html>": "", `{"a"`: "", "[": "", `"a"`: "", "": "", "\xff": "", "a\x00": "", strings.Repeat("a", maxText+1): "",
	} {
		if got := Text([]byte(body)); got != want {
			t.Errorf("%q: got %q, want %q", body, got, want)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"error":{"message":"m","innererror":{"a":1}},"errors":["a",{"loc":["b",1],"msg":"c"}]}`))
	f.Add([]byte(`[{"detail":[{"msg":`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if said := Read(body); said.Detail != nil && !said.Detail.IsValid(lenient...) {
			t.Errorf("detail %q", said.Detail)
		}
	})
}
