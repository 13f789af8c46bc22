package config

import (
	"fmt"

	millracev1 "millrace/proto/millrace/v1"
)

// What a service's capture can say, beside none.
const (
	CaptureRedacted = "redacted" // the request as the policies have left it
	CaptureFull     = "full"     // the request as it came
)

// captureOf is a service's capture, "" for none.
func captureOf(s *millracev1.Service) string {
	if s.Capture == "none" {
		return ""
	}
	return s.Capture
}

// capture checks that what is to be captured is read, and that the services of a rule agree: which
// of them a request is for may be decided by Envoy alone.
func (v *validation) capture(doc *millracev1.Document, services names) {
	for i, s := range doc.Services {
		if captureOf(s) != "" && (s.Inspect == inspectFirstToken || s.Inspect == inspectHeaders) {
			v.errorf(fmt.Sprintf("services[%d].capture", i), "inspect is %s, and then there is nobody to read what is said", s.Inspect)
		}
	}
	for i, r := range doc.Rules {
		for _, weighted := range r.Services {
			first, s := doc.Services[services[r.Services[0].Service]], doc.Services[services[weighted.Service]]
			if captureOf(s) != captureOf(first) {
				v.errorf(fmt.Sprintf("rules[%d].services", i), "services %q and %q differ in capture; those of a rule must have the same", first.Name, s.Name)
			}
		}
	}
}
