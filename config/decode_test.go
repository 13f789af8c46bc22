package config

import (
	"strings"
	"testing"

	millracev1 "millrace/proto/millrace/v1"
)

// TestCommentsInJSON: comments as the source documents write them (seed 001) are no part of the
// value, and what looks like one inside a string is no comment. Places in errors are those of the
// text as it was sent.
func TestCommentsInJSON(t *testing.T) {
	for text, want := range map[string]string{
		"{\"a\": 1,    # 60% of traffic\n \"b\": 2 // Enable \"passive\" checks\n}": `{"a":1,"b":2}`,
		"# first\n// second\r\n[1] # last":                                          `[1]`,
		`{"url": "http://x/#a", "s": "\"// #"}`:                                     `{"url":"http://x/#a","s":"\"// #"}`,
		`["\\\\", 1] // "`:                                                          `["\\\\",1]`,
	} {
		if got, err := StrictJSON([]byte(text)); err != nil || string(got) != want {
			t.Errorf("%q is %s, %v; want %s", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"# nothing\n":               "the body is empty",
		"{\"a\": 1} / 2":            "not JSON at byte 9",
		"{# one\n\"a\": 1,\n oops}": "not JSON at byte 16",
		"[1 /* block */]":           "not JSON",
		"{\"a\": \"open # string":   "not JSON",
	} {
		if got, err := StrictJSON([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is %s, %v; want an error with %q", text, got, err, want)
		}
	}
	r := &millracev1.Rule{}
	if err := DecodeJSON([]byte("{\"path\": \"/v1\", # the path\n \"service\": \"x\" // any\n}"), r); err != nil || r.Path != "/v1" || r.Service != "x" {
		t.Errorf("%v, %v", r, err)
	}
}
