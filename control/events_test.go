package control

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"millrace/config"
	millracev1 "millrace/proto/millrace/v1"
)

// TestEventsTo: where events go is asked of the file's configurations alone, before anything
// changes; what cannot be is refused like any other wrong value, at a start and later, and when
// Envoy refuses the configuration events go back to where they went.
func TestEventsTo(t *testing.T) {
	to := func(path string) string { return file + "events: {file: " + path + "}\n" }
	s := newSite(t, to("/a"))
	var asked []string
	s.eventsTo = func(c *config.Config) error {
		asked = append(asked, eventFile(c))
		if eventFile(c) == "/refused" {
			return errors.New("events.file: no such folder")
		}
		return nil
	}
	want := func(p *Plane, file, now string, paths ...string) {
		t.Helper()
		if !slices.Equal(asked, paths) {
			t.Errorf("asked of %q, want %q", asked, paths)
		}
		if told := p.Status().File.Error; told != file || eventFile(p.Config()) != now {
			t.Errorf("%q, and the configuration says %q", told, eventFile(p.Config()))
		}
	}
	p, end := s.mustStart()
	applies(p) // as Envoy would have said
	want(p, "", "/a", "/a")
	version := p.Config().Version

	change(t, p, func(d *millracev1.Document) {
		d.Services = append(d.Services, &millracev1.Service{Id: "s", Name: "s", Upstream: "default"})
	})
	want(p, "", "/a", "/a") // REST has no say

	s.write(to("/refused"))
	p.reload()
	want(p, "events.file: no such folder", "/a", "/a", "/refused")

	s.write(to("/b"))
	p.reload()
	want(p, "", "/b", "/a", "/refused", "/b")

	p.settler.mu.Lock()
	p.settler.refuse("Envoy refuses")
	p.settler.mu.Unlock()
	want(p, "Envoy refuses", "/a", "/a", "/refused", "/b", "/a")
	if p.Config().Version == version {
		t.Error("what was written over REST is gone")
	}
	end()

	s.write(to("/refused"))
	if _, err := s.start(); err == nil || !strings.Contains(err.Error(), "events.file: no such folder") {
		t.Errorf("a start: %v", err)
	}
}

func eventFile(c *config.Config) string {
	if len(c.Events.Sinks) == 0 {
		return ""
	}
	return c.Events.Sinks[0].Path
}
