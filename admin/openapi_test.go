package admin

import (
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// TestOpenAPISaysWhatIsServed compares the document with the routes, both ways, and with what the
// server answers to each.
func TestOpenAPISaysWhatIsServed(t *testing.T) {
	a := start(t, "")
	d := a.send("GET", "/api/openapi.json", "").want(200)
	if d["openapi"] != "3.1.0" {
		t.Errorf("openapi %v", d["openapi"])
	}
	var described, served []string
	for path, operations := range d["paths"].(map[string]any) {
		for verb := range operations.(map[string]any) {
			described = append(described, strings.ToUpper(verb)+" "+path)
		}
	}
	for _, r := range routes() {
		served = append(served, r.verb+" "+r.path)
	}
	served = append(served, "GET "+eventsPath, "POST "+eventsPath)
	slices.Sort(described)
	slices.Sort(served)
	if !slices.Equal(described, served) {
		t.Errorf("described %q\nserved %q", described, served)
	}
	parameter := regexp.MustCompile(`\{[a-z]+\}`)
	for _, one := range described {
		verb, path, _ := strings.Cut(one, " ")
		got := a.send(verb, parameter.ReplaceAllString(path, "1"), "")
		if got.Status == http.StatusMethodNotAllowed || strings.Contains(got.Body, "there is nothing at") {
			t.Errorf("%s is described and not served: %s", one, got.Body)
		}
	}
}

// TestOpenAPINames checks that every property of a schema is a field of the message, that every
// parameter is one of the request's, and that every reference leads somewhere.
func TestOpenAPINames(t *testing.T) {
	a := start(t, "")
	body := a.send("GET", "/api/openapi.json", "").Body
	var d struct {
		Paths      map[string]map[string]struct{ Parameters []struct{ Name, In string } }
		Components map[string]map[string]map[string]any
	}
	if err := json.Unmarshal([]byte(body), &d); err != nil {
		t.Fatal(err)
	}
	for name, schema := range d.Components["schemas"] {
		message, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
		if name == "Problem" {
			continue
		}
		if err != nil {
			t.Errorf("schema %s: %v", name, err)
			continue
		}
		if full, ok := schema["anyOf"].([]any); ok {
			schema = full[1].(map[string]any)
		}
		properties, _ := schema["properties"].(map[string]any)
		for property := range properties {
			if message.(protoreflect.MessageDescriptor).Fields().ByName(protoreflect.Name(property)) == nil {
				t.Errorf("schema %s has a property %q", name, property)
			}
		}
		if len(properties) != message.(protoreflect.MessageDescriptor).Fields().Len() {
			t.Errorf("schema %s has %d properties", name, len(properties))
		}
	}
	for _, r := range routes() {
		for _, p := range d.Paths[r.path][strings.ToLower(r.verb)].Parameters {
			if p.In != "header" && r.input.Fields().ByName(protoreflect.Name(p.Name)) == nil {
				t.Errorf("%s %s has a parameter %q", r.verb, r.path, p.Name)
			}
		}
	}
	for _, p := range d.Paths[eventsPath]["get"].Parameters {
		if _, err := queryOf(url.Values{p.Name: {"1"}}, time.Now()); err != nil && strings.Contains(err.Error(), "unknown") {
			t.Errorf("GET %s: %v", eventsPath, err)
		}
	}
	for _, ref := range regexp.MustCompile(`"#/components/([a-z]+)/([^"]+)"`).FindAllStringSubmatch(strings.ReplaceAll(body, `\/`, "/"), -1) {
		if d.Components[strings.ToLower(ref[1])][ref[2]] == nil {
			t.Errorf("there is no %s", ref[0])
		}
	}
}
